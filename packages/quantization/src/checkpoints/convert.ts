import { convertAwq } from './awq.js';
import { bitsandbytesStates, convertBitsandbytes4 } from './bitsandbytes.js';
import { convertFp8, convertInt8, convertNvfp4, convertPackQuantized } from './compressed-tensors.js';
import { convertGptq } from './gptq.js';
import type { ConvertedWeight } from './grouped-rows.js';
import { PartReader, type CheckpointParts } from './parts.js';

/** What `quantization_config` of a config.json says that the tensors do not show. */
export interface CheckpointQuantization {
  /** `gptq`, `awq`, `compressed-tensors`, `bitsandbytes`, `fp8`, … */
  readonly method: string;
  readonly bits?: number | undefined;
  readonly sym?: boolean | undefined;
  readonly checkpointFormat?: string | undefined;
}

/** Every part that any of the formats has, by its name behind the name of the layer. */
export const checkpointPartNames: readonly string[] = [
  ...['qweight', 'qzeros', 'scales', 'g_idx'],
  ...['weight', 'weight_packed', 'weight_scale', 'weight_zero_point', 'weight_g_idx', 'weight_shape'],
  ...['weight_global_scale', 'weight_scale_2', 'weight_scale_inv', 'SCB'],
  ...['weight.absmax', 'weight.nested_absmax', 'weight.nested_quant_map'],
  ...bitsandbytesStates,
];

/** Parts that tell a quantised layer from a plain one, which has a `weight` of floats and perhaps a bias. */
const tellTales = ['qweight', 'weight_packed', 'weight_scale', 'weight_scale_inv', 'SCB', ...bitsandbytesStates];

/** Whether a layer with these parts is quantised. */
export function isQuantizedLayer(has: (part: string) => boolean): boolean {
  return tellTales.some(has);
}

/**
 * A quantised weight of a safetensors checkpoint as blocks that run. Every weight keeps its value: scales and zero points become an f32 scale
 * and offset per group.
 *
 * @throws CheckpointFormatError naming the weight
 */
export function convertCheckpointWeight(
  name: string,
  parts: CheckpointParts,
  { method, bits = 4, sym, checkpointFormat }: CheckpointQuantization,
): ConvertedWeight {
  const reader = new PartReader(name, parts);
  const has = (part: string): boolean => reader.has(part);
  if (has('qweight'))
    return method === 'awq' ? convertAwq(name, parts, { bits }) : convertGptq(name, parts, { bits, sym, checkpointFormat });
  if (has('weight_global_scale') || has('weight_scale_2')) return convertNvfp4(name, parts);
  if (has('weight_packed')) return convertPackQuantized(name, parts);
  if (bitsandbytesStates.some(has)) return convertBitsandbytes4(name, parts);
  if (!has('weight')) throw reader.error(`its parts are ${Object.keys(parts).join(', ')}: no format that is known`);
  switch (reader.dtype('weight')) {
    case 'I8':
      return convertInt8(name, parts);
    case 'F8_E4M3':
    case 'F8_E5M2':
      return convertFp8(name, parts);
    default:
      throw reader.error(
        `its weight is ${reader.dtype('weight')} with ${Object.keys(parts).join(', ')}: no format that is known`,
      );
  }
}
