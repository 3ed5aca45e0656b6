import { f16ToNumber } from '@filigree/core-tensor';
import { fieldOffsets } from '../gguf/block-fields.js';
import { scaleAndMinimum } from '../gguf/scales.js';
import { clamp, f32, nearestInt } from './arithmetic.js';
import { putHalf, putNibblesOf64, putTwoBits, type BlockEncoder } from './encode-block.js';
import { searchOffset, type OffsetSearch } from './search-offset.js';

/** Weights of the errors of a group. */
type Weighting = (group: Float32Array) => Float32Array;

const magnitudes: Weighting = (group) => group.map(Math.abs);

/** Root mean square of the group plus the magnitude. */
const levelled: Weighting = (group) => {
  let sum = 0;
  for (const value of group) sum = f32(sum + f32(value * value));
  const mean = f32(Math.sqrt(f32(sum / group.length)));
  return group.map((value) => mean + Math.abs(value));
};

/** Fits every group of a super-block: codes in order, a scale and a minimum per group, and the largest of each. */
function fitGroups(x: Float32Array, size: number, search: OffsetSearch, weighting: Weighting) {
  const codes = new Uint8Array(256);
  const scales = new Float32Array(256 / size);
  const minima = new Float32Array(256 / size);
  for (let group = 0; group < scales.length; group++) {
    const values = x.subarray(group * size, (group + 1) * size);
    const part = codes.subarray(group * size, (group + 1) * size);
    const { scale, minimum } = searchOffset(values, weighting(values), part, search);
    scales[group] = scale;
    minima[group] = minimum;
  }
  const largest = (values: Float32Array): number => values.reduce((most, value) => (value > most ? value : most), 0);
  return { codes, scales, minima, largestScale: largest(scales), largestMinimum: largest(minima) };
}

/** Codes of a group under the scale and minimum that the file has; without a scale they stay as they are. */
function roundGroup(x: Float32Array, d: number, minimum: number, levels: number, codes: Uint8Array): void {
  if (d === 0) return;
  for (let e = 0; e < x.length; e++) codes[e] = clamp(nearestInt(f32(f32(x[e] + minimum) / d)), 0, levels);
}

/** 2-bit codes; 4-bit scales and minima per 16. */
const encodeQ2K: BlockEncoder = (x, out, at) => {
  const field = fieldOffsets.Q2_K;
  const search = { levels: 3, from: -0.5, step: 0.1, tries: 15, absolute: true };
  const { codes, scales, minima, largestScale, largestMinimum } = fitGroups(x, 16, search, magnitudes);
  const code = (values: Float32Array, largest: number, group: number): number =>
    largest > 0 ? nearestInt(f32(f32(15 / largest) * values[group])) : 0;
  const half = (offset: number, largest: number): number => f16ToNumber(putHalf(out, at + offset, f32(largest / 15)));
  const [d, dMinimum] = [half(field.d, Math.max(largestScale, 0)), half(field.dmin, Math.max(largestMinimum, 0))];
  for (let group = 0; group < 16; group++) {
    const to = at + field.scales + group;
    out[to] = code(scales, largestScale, group) | (code(minima, largestMinimum, group) << 4);
    const part = codes.subarray(16 * group, 16 * group + 16);
    const values = x.subarray(16 * group, 16 * group + 16);
    roundGroup(values, f32(d * (out[to] & 15)), f32(dMinimum * (out[to] >> 4)), 3, part);
  }
  putTwoBits(out, at + field.qs, codes);
};

/** 6-bit scales and minima per 32, packed as the decoder reads them ({@link scaleAndMinimum}). */
function putScales(out: Uint8Array, at: number, scales: readonly number[], minima: readonly number[]): void {
  for (let t = 0; t < 4; t++) {
    out[at + t] = scales[t] | ((scales[t + 4] >> 4) << 6);
    out[at + 4 + t] = minima[t] | ((minima[t + 4] >> 4) << 6);
    out[at + 8 + t] = (scales[t + 4] & 15) | ((minima[t + 4] & 15) << 4);
  }
}

/** 4- and 5-bit codes; 6-bit scales and minima per 32. */
function sixBitScales(type: 'Q4_K' | 'Q5_K', search: OffsetSearch): BlockEncoder {
  const field = fieldOffsets[type];
  return (x, out, at) => {
    const { codes, scales, minima, largestScale, largestMinimum } = fitGroups(x, 32, search, levelled);
    const sixBits = (values: Float32Array, largest: number): number[] => {
      const inverse = largest > 0 ? f32(63 / largest) : 0;
      return Array.from(values, (value) => Math.min(63, nearestInt(f32(inverse * value)) & 255));
    };
    const d = f16ToNumber(putHalf(out, at + field.d, f32(largestScale / 63)));
    const dMinimum = f16ToNumber(putHalf(out, at + field.dmin, f32(largestMinimum / 63)));
    putScales(out, at + field.scales, sixBits(scales, largestScale), sixBits(minima, largestMinimum));
    for (let group = 0; group < 8; group++) {
      const { scale, minimum } = scaleAndMinimum(out, at + field.scales, group);
      const [from, to] = [32 * group, 32 * group + 32];
      roundGroup(x.subarray(from, to), f32(d * scale), f32(dMinimum * minimum), search.levels, codes.subarray(from, to));
    }
    putNibblesOf64(out, at + field.qs, codes);
    if ('qh' in field) for (let e = 0; e < 256; e++) out[at + field.qh + (e & 31)] |= (codes[e] >> 4) << (e >> 5);
  };
}

/** K-quants with a scale and a minimum per group. */
export const offsetKEncoders = {
  Q2_K: encodeQ2K,
  Q4_K: /* @__PURE__ */ sixBitScales('Q4_K', { levels: 15, from: -1, step: 0.1, tries: 20, absolute: false }),
  Q5_K: /* @__PURE__ */ sixBitScales('Q5_K', { levels: 31, from: -0.5, step: 0.1, tries: 15, absolute: false }),
} satisfies Record<string, BlockEncoder>;
