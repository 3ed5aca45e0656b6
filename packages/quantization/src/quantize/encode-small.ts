import { fieldOffsets } from '../gguf/block-fields.js';
import { f32, inverseOf, roundAway, signedPeak, toInt } from './arithmetic.js';
import { putHalf, putTwoBits, type BlockEncoder } from './encode-block.js';

/** −1, 0, 1 as 0, 1, 2, over the largest magnitude. What is no number because the inverse overflowed is 0. */
function ternaryDigits(x: Float32Array): { d: number; digits: number[] } {
  const d = Math.abs(signedPeak(x));
  const inverse = inverseOf(d);
  const digits = Array.from(x, (value) => {
    const scaled = f32(value * inverse);
    return Number.isFinite(scaled) ? roundAway(scaled) + 1 : 1;
  });
  return { d, digits };
}

/** Five base-3 digits, the first the most significant, as a fraction of 256 rounded up: a decoder multiplies by 3 to read one. */
function ternaryByte(digits: readonly number[]): number {
  const value = digits.reduce((sum, digit) => 3 * sum + digit, 0) * 3 ** (5 - digits.length);
  return Math.floor((value * 256 + 242) / 243);
}

/** Ternary, one-bit and two-bit blocks: one scale, codes by rounding. */
export const smallEncoders = {
  TQ1_0(x, out, at) {
    const field = fieldOffsets.TQ1_0;
    const { d, digits } = ternaryDigits(x);
    const byte = (first: number, stride: number, count: number): number =>
      ternaryByte(Array.from({ length: count }, (_, n) => digits[first + n * stride]));
    for (let j = 0; j < 32; j++) out[at + field.qs + j] = byte(j, 32, 5);
    for (let j = 0; j < 16; j++) out[at + field.qs + 32 + j] = byte(160 + j, 16, 5);
    for (let j = 0; j < 4; j++) out[at + field.qh + j] = byte(240 + j, 4, 4);
    putHalf(out, at + field.d, d);
  },
  TQ2_0(x, out, at) {
    const { d, digits } = ternaryDigits(x);
    putTwoBits(out, at + fieldOffsets.TQ2_0.qs, digits);
    putHalf(out, at + fieldOffsets.TQ2_0.d, d);
  },
  Q1_0(x, out, at) {
    const field = fieldOffsets.Q1_0;
    let sum = 0;
    for (const value of x) sum = f32(sum + Math.abs(value));
    putHalf(out, at + field.d, f32(sum / 128));
    for (let e = 0; e < 128; e++) if (x[e] >= 0) out[at + field.qs + (e >> 3)] |= 1 << (e & 7);
  },
  Q2_0(x, out, at) {
    const field = fieldOffsets.Q2_0;
    const d = Math.abs(signedPeak(x));
    const inverse = inverseOf(d);
    putHalf(out, at + field.d, d);
    for (let e = 0; e < 64; e++) {
      const level = toInt(roundAway(f32(x[e] * inverse)));
      out[at + field.qs + (e >> 2)] |= Math.min(3, Math.max(0, level + 1)) << (2 * (e & 3));
    }
  },
} satisfies Record<string, BlockEncoder>;
