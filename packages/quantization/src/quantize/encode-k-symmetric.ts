import { f16ToNumber } from '@filigree/core-tensor';
import { fieldOffsets } from '../gguf/block-fields.js';
import { clamp, f32, groupEpsilon, nearestInt, signedPeak } from './arithmetic.js';
import { putHalf, putTwoBits, type BlockEncoder } from './encode-block.js';
import { searchSymmetric, sweepSymmetric } from './search-symmetric.js';

/** Codes of a group under the scale that the file has, biased by `half`; without a scale they stay as they are. */
function roundGroup(x: Float32Array, d: number, half: number, codes: Uint8Array): void {
  if (d === 0) return;
  for (let e = 0; e < x.length; e++) codes[e] = clamp(nearestInt(f32(x[e] / d)), -half, half - 1) + half;
}

/** Fits the 16 groups of a super-block. */
function fitGroups(x: Float32Array, half: number, search: typeof searchSymmetric) {
  const codes = new Uint8Array(256);
  const scales = new Float32Array(16);
  for (let group = 0; group < 16; group++) {
    const [from, to] = [16 * group, 16 * group + 16];
    scales[group] = search(x.subarray(from, to), half, codes.subarray(from, to));
  }
  return { codes, scales };
}

/** 3-bit codes; signed 6-bit scales per 16, of which the largest gets −32. */
const encodeQ3K: BlockEncoder = (x, out, at) => {
  const field = fieldOffsets.Q3_K;
  const scalesAt = at + field.scales;
  const { codes, scales } = fitGroups(x, 4, sweepSymmetric);
  const largest = signedPeak(scales);
  const inverse = largest === 0 ? 0 : f32(-32 / largest);
  const d = f16ToNumber(putHalf(out, at + field.d, largest === 0 ? 0 : f32(1 / inverse)));
  for (let t = 0; t < 16; t++) {
    // Without any scale the stored ones are zero bits, which stand for −32.
    const scale = largest === 0 ? -32 : clamp((nearestInt(f32(inverse * scales[t])) << 24) >> 24, -32, 31);
    const stored = scale + 32;
    out[scalesAt + (t & 7)] |= (stored & 15) << (t < 8 ? 0 : 4);
    out[scalesAt + 8 + (t & 3)] |= (stored >> 4) << (2 * (t >> 2));
    roundGroup(x.subarray(16 * t, 16 * t + 16), f32(d * scale), 4, codes.subarray(16 * t, 16 * t + 16));
  }
  for (let e = 0; e < 256; e++) out[at + field.hmask + (e & 31)] |= (codes[e] >> 2) << (e >> 5);
  putTwoBits(out, at + field.qs, codes);
};

/** 6-bit codes; signed 8-bit scales per 16, of which the largest gets −128. */
const encodeQ6K: BlockEncoder = (x, out, at) => {
  const field = fieldOffsets.Q6_K;
  const { codes, scales } = fitGroups(x, 32, searchSymmetric);
  const largest = signedPeak(scales);
  if (Math.abs(largest) < groupEpsilon) return;
  const inverse = f32(-128 / largest);
  const d = f16ToNumber(putHalf(out, at + field.d, f32(1 / inverse)));
  for (let t = 0; t < 16; t++) {
    const scale = (Math.min(127, nearestInt(f32(inverse * scales[t]))) << 24) >> 24;
    out[at + field.scales + t] = scale & 255;
    roundGroup(x.subarray(16 * t, 16 * t + 16), f32(d * scale), 32, codes.subarray(16 * t, 16 * t + 16));
  }
  for (let e = 0; e < 256; e++) {
    const [h, j, l] = [e >> 7, (e >> 5) & 3, e & 31];
    out[at + field.ql + 64 * h + 32 * (j & 1) + l] |= (codes[e] & 15) << (j < 2 ? 0 : 4);
    out[at + field.qh + 32 * h + l] |= (codes[e] >> 4) << (2 * j);
  }
};

/** K-quants with a signed scale per group. */
export const symmetricKEncoders = { Q3_K: encodeQ3K, Q6_K: encodeQ6K } satisfies Record<string, BlockEncoder>;
