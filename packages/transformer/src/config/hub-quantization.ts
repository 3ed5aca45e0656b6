import type { CheckpointQuantization } from '@filigree/quantization';
import { isObject, JsonReader } from './json-reader.js';

/** The `quantization_config` of a `config.json`; undefined where there is none. `where` names the file in errors. */
export function hubQuantization(json: unknown, where: string): CheckpointQuantization | undefined {
  if (!isObject(json)) return undefined;
  const outer = new JsonReader(where, json);
  const config = outer.child('quantization_config') ?? outer.child('text_config')?.child('quantization_config');
  if (!config) return undefined;
  return {
    method: config.text('quant_method') ?? '',
    // AWQ wrote `w_bit` at first.
    bits: config.optional('bits') ?? config.optional('w_bit'),
    sym: config.flag('sym'),
    checkpointFormat: config.text('checkpoint_format'),
  };
}
