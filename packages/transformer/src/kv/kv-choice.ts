import { OptionError } from '@filigree/core-tensor';
import { kvMethod, type Compressor, type KvPlan } from '@filigree/kv-cache';
import type { MethodOptions } from '@filigree/sparse-attention';
import type { Compression } from '../model/session.js';

/** A method of the catalogue with options that differ from its defaults. */
export interface KvMethodChoice {
  readonly method: string;
  readonly options?: MethodOptions | undefined;
  /** What calibration found of the model's heads, for a method that is `planned`. */
  readonly plan?: KvPlan | undefined;
  /**
   * Cuts back to what was kept of the prompt whenever so many tokens have come since, so that the cache does not grow. Default: never. For methods that
   * decide by the order of entries; TOVA and StreamingLLM, as published, do it at every token.
   */
  readonly every?: number | undefined;
}

/** A method of the catalogue, or a compressor of one's own. */
export type KvChoice = KvMethodChoice | Compressor;

/** @throws OptionError naming an unknown method or option, an `every` that is no positive integer, or a method that cannot do it. */
export function kvCompression(choice: KvChoice, caller: string): Compression {
  const compressor = kvCompressor(choice, caller);
  if (!('method' in choice) || choice.every === undefined) return { compressor };
  const { every, method } = choice;
  if (!Number.isInteger(every) || every < 1)
    throw new OptionError(`${caller}: kv: every is ${every}, it must be a positive integer`);
  if (compressor.decodes !== true)
    throw new OptionError(`${caller}: kv: ${method} decides about whole prompts; leave out every`);
  return { compressor, every };
}

/** @throws OptionError naming an unknown method or option. */
export function kvCompressor(choice: KvChoice, caller: string): Compressor {
  if (!('method' in choice)) return choice;
  try {
    return kvMethod(choice.method).create(choice.options, choice.plan);
  } catch (error) {
    if (error instanceof OptionError) throw new OptionError(`${caller}: kv: ${error.message}`, { cause: error });
    throw error;
  }
}
