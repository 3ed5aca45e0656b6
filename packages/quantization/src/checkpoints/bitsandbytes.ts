import { GroupedRows, type ConvertedWeight } from './grouped-rows.js';
import { PartReader, type CheckpointParts } from './parts.js';

/** What bitsandbytes keeps beside four-bit codes, as JSON in a tensor of bytes. */
interface QuantState {
  readonly quant_type: string;
  readonly blocksize: number;
  readonly shape: readonly number[];
  readonly nested_blocksize?: number;
  readonly nested_offset?: number;
}

/** Names of the part with the state. */
export const bitsandbytesStates = ['weight.quant_state.bitsandbytes__nf4', 'weight.quant_state.bitsandbytes__fp4'] as const;

/**
 * A weight of bitsandbytes in four bits (QLoRA, Dettmers et al., arXiv:2305.14314): weight u8 of all codes in a row, the first of two in the
 * high nibble, `weight.absmax` f32 per block, or u8 into `weight.nested_quant_map` times `weight.nested_absmax` plus an offset.
 *
 * @throws CheckpointFormatError
 */
export function convertBitsandbytes4(name: string, parts: CheckpointParts): ConvertedWeight {
  const reader = new PartReader(name, parts);
  const state = readState(reader);
  const [outFeatures, inFeatures] = state.shape;
  const codes = reader.bytes('weight', 'U8');
  if (codes.length * 2 !== outFeatures * inFeatures)
    throw reader.error(
      `weight has ${codes.length} bytes, [${outFeatures}, ${inFeatures}] take ${(outFeatures * inFeatures) / 2}`,
    );
  const { blocksize } = state;
  const scales = blockScales(reader, state, Math.ceil((outFeatures * inFeatures) / blocksize));
  // Blocks may run over the end of rows: groups that divide both lie within one.
  const out = new GroupedRows(reader, state.quant_type === 'fp4' ? 'FP4' : 'NF4', outFeatures, inFeatures, blocksize);
  for (let n = 0; n < outFeatures; n++) {
    for (let k = 0; k < inFeatures; k++) {
      const at = n * inFeatures + k;
      out.put(n, k, (codes[at >> 1] >> (at & 1 ? 0 : 4)) & 15);
    }
  }
  out.setFactors((n, k) => ({ scale: scales[Math.floor((n * inFeatures + k) / blocksize)] }));
  return out.weight();
}

function readState(reader: PartReader): QuantState {
  const part = bitsandbytesStates.find((candidate) => reader.has(candidate));
  if (!part) throw reader.error(`there is no ${bitsandbytesStates.join(' or ')}`);
  let state: Partial<QuantState>;
  try {
    state = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(reader.bytes(part, 'U8'))) as Partial<QuantState>;
  } catch (cause) {
    throw Object.assign(reader.error(`${part} is no JSON`), { cause });
  }
  const { quant_type, blocksize, shape } = state;
  const sizes = Array.isArray(shape) ? shape : [];
  if (
    (quant_type !== 'nf4' && quant_type !== 'fp4') ||
    !isSize(blocksize) ||
    blocksize % 32 !== 0 ||
    sizes.length !== 2 ||
    !sizes.every(isSize)
  )
    throw reader.error(
      `${part} states type ${quant_type}, block size ${blocksize} and shape ${JSON.stringify(shape)}, which cannot be run`,
    );
  return { ...state, quant_type, blocksize, shape: sizes };
}

function isSize(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value > 0;
}

function blockScales(reader: PartReader, state: QuantState, blocks: number): Float32Array {
  if (reader.dtype('weight.absmax') !== 'U8') {
    reader.assertShape('weight.absmax', [blocks]);
    return reader.floats('weight.absmax');
  }
  reader.assertShape('weight.absmax', [blocks]);
  reader.assertShape('weight.nested_quant_map', [256]);
  const codes = reader.bytes('weight.absmax', 'U8');
  const [levels, scales] = [reader.floats('weight.nested_quant_map'), reader.floats('weight.nested_absmax')];
  const { nested_blocksize: size, nested_offset: offset = 0 } = state;
  if (!isSize(size) || scales.length !== Math.ceil(blocks / size))
    throw reader.error(`weight.nested_absmax has ${scales.length} elements for ${blocks} blocks of ${size}`);
  return Float32Array.from(codes, (code, block) => Math.fround(levels[code] * scales[Math.floor(block / size)]) + offset);
}
