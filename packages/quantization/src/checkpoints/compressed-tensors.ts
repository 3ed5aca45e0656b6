import { ggufLayout } from '../gguf/types.js';
import { bitStream, GroupedRows, integerKind, type ConvertedWeight } from './grouped-rows.js';
import { PartReader, type CheckpointParts } from './parts.js';

/**
 * A weight of `compressed-tensors` in `pack-quantized` form: weight_packed i32 [N, K·bits/32] along K of q + 2^(bits−1), weight_scale [N, G],
 * weight_zero_point i32 [N·bits/32, G] along N of z + 2^(bits−1), weight_shape i32 or i64 [2]. w = scale · (q − z).
 *
 * @throws CheckpointFormatError
 */
export function convertPackQuantized(name: string, parts: CheckpointParts): ConvertedWeight {
  const reader = new PartReader(name, parts);
  const [outFeatures, columns] = reader.matrix('weight_packed');
  const inFeatures = statedInputs(reader, outFeatures);
  const bits = [2, 3, 4, 8].find((candidate) => Math.ceil((inFeatures * candidate) / 32) === columns);
  if (bits === undefined)
    throw reader.error(
      `weight_packed has rows of ${columns} words, ${inFeatures} inputs fill them with no codes of 2, 3, 4 or 8 bits`,
    );
  const groups = reader.shape('weight_scale').length > 1 ? reader.shape('weight_scale')[1] : 1;
  const size = inFeatures / groups;
  if (!Number.isInteger(size)) throw reader.error(`${groups} groups do not divide ${inFeatures} inputs`);
  if (reader.has('weight_g_idx')) assertInOrder(reader, size);
  const scales = reader.floats('weight_scale');
  const words = reader.words('weight_packed');
  const zero = zeroPoints(reader, { bits, groups, outFeatures });
  const out = new GroupedRows(reader, integerKind(reader, bits), outFeatures, inFeatures, size);
  for (let n = 0; n < outFeatures; n++) {
    const code = bitStream(words, bits, n * columns);
    for (let k = 0; k < inFeatures; k++) out.put(n, k, code(k));
  }
  out.setFactors((n, k) => {
    const group = Math.floor(k / size);
    const scale = scales[n * groups + group];
    return { scale, offset: scale * ((bits === 8 ? 128 : 0) - zero(n, group)) };
  });
  return out.weight();
}

/** Zero points in terms of the stored, unsigned codes; the middle where there are none. */
function zeroPoints(
  reader: PartReader,
  { bits, groups, outFeatures }: { bits: number; groups: number; outFeatures: number },
): (n: number, group: number) => number {
  const middle = 2 ** (bits - 1);
  if (!reader.has('weight_zero_point')) return () => middle;
  if (reader.dtype('weight_zero_point') === 'I8') {
    reader.assertShape('weight_zero_point', [outFeatures, groups]);
    const bytes = new Int8Array(reader.bytes('weight_zero_point', 'I8'));
    return (n, group) => middle + bytes[n * groups + group];
  }
  reader.assertShape('weight_zero_point', [Math.ceil((outFeatures * bits) / 32), groups]);
  const words = reader.words('weight_zero_point');
  const streams = Array.from({ length: groups }, (_, group) => bitStream(words, bits, group, groups));
  return (n, group) => streams[group](n);
}

function statedInputs(reader: PartReader, outFeatures: number): number {
  const bytes = reader.bytes('weight_shape', 'I64', 'I32');
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const size = reader.dtype('weight_shape') === 'I64' ? 8 : 4;
  if (bytes.byteLength !== 2 * size) throw reader.error('weight_shape does not have two elements');
  const at = (index: number): number =>
    size === 8 ? Number(view.getBigInt64(8 * index, true)) : view.getInt32(4 * index, true);
  const inFeatures = at(1);
  if (at(0) !== outFeatures || !Number.isSafeInteger(inFeatures) || inFeatures < 1)
    throw reader.error(`weight_shape is [${at(0)}, ${inFeatures}], weight_packed has ${outFeatures} rows`);
  return inFeatures;
}

function assertInOrder(reader: PartReader, size: number): void {
  const stated = reader.words('weight_g_idx');
  const wrong = stated.findIndex((group, k) => group !== Math.floor(k / size));
  // −1 everywhere: no order was stored.
  if (wrong >= 0 && stated[wrong] !== 0xffffffff)
    throw reader.error(`weight_g_idx[${wrong}] is ${stated[wrong]}: groups of inputs that are not in order cannot be run`);
}

/**
 * A weight of signed bytes: weight i8 [N, K], weight_scale [N, G], [N, 1], [N] or [1], weight_zero_point i8 of the shape of the scale
 * (compressed-tensors `int-quantized`; bitsandbytes' LLM.int8 (arXiv:2208.07339) with `SCB`, the largest magnitude of each row). w = scale · (q − z).
 *
 * @throws CheckpointFormatError
 */
export function convertInt8(name: string, parts: CheckpointParts): ConvertedWeight {
  const reader = new PartReader(name, parts);
  const [outFeatures, inFeatures] = reader.matrix('weight');
  const codes = reader.bytes('weight', 'I8').map((code) => code ^ 128);
  const magnitudes = reader.has('SCB');
  const scales = scaleGrid(reader, magnitudes ? 'SCB' : 'weight_scale', outFeatures, inFeatures);
  const zeros = reader.has('weight_zero_point') ? new Int8Array(reader.bytes('weight_zero_point', 'I8')) : undefined;
  const out = new GroupedRows(reader, 'INT8', outFeatures, inFeatures, scales.share);
  for (let n = 0; n < outFeatures; n++) for (let k = 0; k < inFeatures; k += 32) out.copy(n, k, codes, n * inFeatures + k);
  out.setFactors((n, k) => {
    const at = scales.index(n, k);
    const scale = magnitudes ? Math.fround(scales.values[at] / 127) : scales.values[at];
    return { scale, offset: zeros ? -scale * zeros[at] : 0 };
  });
  return out.weight();
}

/**
 * A weight of eight-bit floats: weight f8 [N, K] with weight_scale of rows, groups or the tensor, or with weight_scale_inv f32
 * [⌈N/128⌉, ⌈K/128⌉], which multiplies despite its name (DeepSeek-V3, arXiv:2412.19437).
 *
 * @throws CheckpointFormatError
 */
export function convertFp8(name: string, parts: CheckpointParts): ConvertedWeight {
  const reader = new PartReader(name, parts);
  const [outFeatures, inFeatures] = reader.matrix('weight');
  const kind = reader.dtype('weight') === 'F8_E5M2' ? 'E5M2' : 'E4M3';
  const codes = reader.bytes('weight', 'F8_E4M3', 'F8_E5M2');
  const scales = scaleGrid(
    reader,
    reader.has('weight_scale_inv') ? 'weight_scale_inv' : 'weight_scale',
    outFeatures,
    inFeatures,
  );
  const out = new GroupedRows(reader, kind, outFeatures, inFeatures, scales.share);
  for (let n = 0; n < outFeatures; n++) for (let k = 0; k < inFeatures; k += 32) out.copy(n, k, codes, n * inFeatures + k);
  out.setFactors((n, k) => ({ scale: scales.values[scales.index(n, k)] }));
  return out.weight();
}

/** Side of the blocks that share a scale where both axes are cut. */
const blockSide = 128;

interface ScaleGrid {
  readonly values: Float32Array;
  /** Inputs of a row that are sure to share a scale. */
  readonly share: number;
  /** The scale of a weight. */
  index(n: number, k: number): number;
}

/** Scales of the tensor, of rows, of groups of a row, or of blocks of 128 × 128. */
function scaleGrid(reader: PartReader, part: string, outFeatures: number, inFeatures: number): ScaleGrid {
  const values = reader.floats(part);
  const shape = reader.shape(part);
  const [rows, columns = 1] = shape;
  if (values.length === 1) return { values, share: inFeatures, index: () => 0 };
  if (values.length === outFeatures && rows === outFeatures) return { values, share: inFeatures, index: (n) => n };
  if (rows === outFeatures && shape.length === 2 && inFeatures % columns === 0) {
    const share = inFeatures / columns;
    return { values, share, index: (n, k) => n * columns + Math.floor(k / share) };
  }
  const grid = [Math.ceil(outFeatures / blockSide), Math.ceil(inFeatures / blockSide)];
  if (shape.join() !== grid.join())
    throw reader.error(
      `${part} is [${shape.join(', ')}]; there are scales of the tensor [1], of rows [${outFeatures}, 1], of groups and of blocks [${grid.join(', ')}]`,
    );
  const index = (n: number, k: number): number => Math.floor(n / blockSide) * columns + Math.floor(k / blockSide);
  return { values, share: blockSide, index };
}

/**
 * A weight in NVFP4: weight_packed u8 [N, K/2], two E2M1 codes a byte, the even input low, weight_scale f8 [N, K/16], weight_global_scale [1], which
 * divides (compressed-tensors), or weight u8 with weight_scale_2 [1], which multiplies (ModelOpt). Becomes GGUF's NVFP4 with a factor.
 *
 * @throws CheckpointFormatError
 */
export function convertNvfp4(name: string, parts: CheckpointParts): ConvertedWeight {
  const reader = new PartReader(name, parts);
  const packed = reader.has('weight_packed') ? 'weight_packed' : 'weight';
  const [outFeatures, halves] = reader.matrix(packed);
  const inFeatures = 2 * halves;
  const { elements, bytes } = ggufLayout('NVFP4');
  if (inFeatures % elements !== 0) throw reader.error(`rows of ${inFeatures} inputs are no whole blocks of ${elements}`);
  reader.assertShape('weight_scale', [outFeatures, inFeatures / 16]);
  const [codes, scales] = [reader.bytes(packed, 'U8'), reader.bytes('weight_scale', 'F8_E4M3')];
  const divides = reader.has('weight_global_scale');
  const global = reader.floats(divides ? 'weight_global_scale' : 'weight_scale_2')[0];
  if (!(global > 0) || !Number.isFinite(global)) throw reader.error(`its global scale is ${global}`);
  const blocks = new Uint8Array((outFeatures * inFeatures * bytes) / elements);
  const code = (at: number): number => (codes[at >> 1] >> (4 * (at & 1))) & 15;
  for (let sub = 0; sub < (outFeatures * inFeatures) / 16; sub++) {
    if (scales[sub] & 128 || scales[sub] === 127) throw reader.error(`weight_scale[${sub}] is negative or NaN`);
    const block = Math.floor(sub / 4) * bytes;
    blocks[block + (sub % 4)] = scales[sub];
    const to = block + 4 + 8 * (sub % 4);
    for (let e = 0; e < 8; e++) blocks[to + e] = code(16 * sub + e) | (code(16 * sub + 8 + e) << 4);
  }
  return { type: 'NVFP4', outFeatures, inFeatures, blocks, scale: divides ? 1 / global : global };
}
