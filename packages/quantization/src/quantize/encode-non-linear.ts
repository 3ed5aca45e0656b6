import { fieldOffsets } from '../gguf/block-fields.js';
import { nonLinear } from '../gguf/levels.js';
import { clamp, f32, groupEpsilon, inverseOf, nearestInt, signedPeak } from './arithmetic.js';
import { putHalf, putNibbles, type BlockEncoder } from './encode-block.js';

/** Trials on either side of the first scale. */
const tries = 7;

/** The code of the nearest level; half-way between two, the upper one. */
function nearestLevel(x: number): number {
  let code = 0;
  while (code < 15 && f32(x - nonLinear[code]) >= f32(nonLinear[code + 1] - x)) code++;
  return code;
}

/** Σ x²·level·x and Σ x²·level² of a group under an inverse scale. */
function sumsOf(x: Float32Array, inverse: number): { xq: number; q2: number } {
  let [xq, q2] = [0, 0];
  for (const value of x) {
    const level = nonLinear[nearestLevel(f32(inverse * value))];
    const product = f32(f32(value * value) * level);
    xq = f32(xq + f32(product * value));
    q2 = f32(q2 + f32(product * level));
  }
  return { xq, q2 };
}

/** Scale of 32 weights: the least-squares one under the best of the inverse scales (i − 127) / peak, i = −7 … 7. */
function searchScale(x: Float32Array): number {
  const peak = signedPeak(x);
  if (Math.abs(peak) < groupEpsilon) return 0;
  const first = sumsOf(x, f32(1 / f32(-peak / nonLinear[0])));
  let d = first.q2 > 0 ? f32(first.xq / first.q2) : 0;
  let best = f32(d * first.xq);
  for (let index = -tries; index <= tries; index++) {
    const { xq, q2 } = sumsOf(x, f32((index + nonLinear[0]) / peak));
    if (!(q2 > 0 && f32(xq * xq) > f32(best * q2))) continue;
    d = f32(xq / q2);
    best = f32(d * xq);
  }
  return d;
}

function codesOf(x: Float32Array, inverse: number): number[] {
  return Array.from(x, (value) => nearestLevel(f32(inverse * value)));
}

/** Four-bit codes of 16 levels that are denser around 0. */
export const nonLinearEncoders = {
  IQ4_NL(x, out, at) {
    const field = fieldOffsets.IQ4_NL;
    const d = searchScale(x);
    putHalf(out, at + field.d, d);
    putNibbles(out, at + field.qs, codesOf(x, inverseOf(d)));
  },
  /** Signed 6-bit scales per 32, of which the largest gets −32. */
  IQ4_XS(x, out, at) {
    const field = fieldOffsets.IQ4_XS;
    const groups = Array.from({ length: 8 }, (_, t) => x.subarray(32 * t, 32 * t + 32));
    const scales = Float32Array.from(groups, searchScale);
    const d = f32(-signedPeak(scales) / 32);
    const inverse = inverseOf(d);
    putHalf(out, at + field.d, d);
    for (const [t, group] of groups.entries()) {
      const scale = clamp(nearestInt(f32(inverse * scales[t])), -32, 31);
      putNibbles(out, at + field.qs + 16 * t, codesOf(group, inverseOf(f32(d * scale))));
      out[at + field.scales_l + (t >> 1)] |= ((scale + 32) & 15) << (4 * (t & 1));
      out[at + field.scales_h + (t >> 2)] |= ((scale + 32) >> 4) << (2 * (t & 3));
    }
  },
} satisfies Record<string, BlockEncoder>;
