import { fieldOffsets } from '../gguf/block-fields.js';
import { e2m1Doubled } from '../gguf/levels.js';
import { e8m0Half, unsignedE4m3 } from '../gguf/scales.js';
import { f32, signedPeak } from './arithmetic.js';
import type { BlockEncoder } from './encode-block.js';

/** The code whose value is nearest; of two equally near ones the one with the lower number. */
function nearestE2m1(value: number, scale: number): number {
  let best = 0;
  let least = Infinity;
  for (const [code, level] of e2m1Doubled.entries()) {
    const error = Math.abs(f32(f32(level * scale) - value));
    if (error < least) [best, least] = [code, error];
  }
  return best;
}

/** Nibbles of a group: its first half low, its second half high. */
function putCodes(out: Uint8Array, at: number, x: Float32Array, scale: number): void {
  const half = x.length / 2;
  for (let e = 0; e < half; e++) out[at + e] = nearestE2m1(x[e], scale) | (nearestE2m1(x[e + half], scale) << 4);
}

/** The nearest unsigned E4M3 byte, half-way cases to even, at most 448. */
export function toUnsignedE4m3(value: number): number {
  if (!(value > 0)) return 0;
  // Bytes of positive values are in their order, so that rounding up carries into the exponent.
  const exponent = Math.max(-6, Math.floor(Math.log2(value)));
  const units = value / 2 ** (exponent - 3);
  const floor = Math.floor(units);
  const up = units - floor > 0.5 || (units - floor === 0.5 && floor % 2 === 1);
  return Math.min(0x7e, (exponent + 6) * 8 + floor + (up ? 1 : 0));
}

/** Blocks of E2M1 values. */
export const fp4Encoders = {
  /** Scale 2^(⌊log₂ peak⌋ − 2): the peak, 4 to 8 in its units, meets values up to 6. ggml takes the logarithm in f32. */
  MXFP4(x, out, at) {
    const field = fieldOffsets.MXFP4;
    const peak = Math.abs(signedPeak(x));
    const e = peak > 0 ? (Math.floor(f32(Math.log2(peak))) + 125) & 255 : 0;
    out[at + field.exponent] = e;
    putCodes(out, at + field.qs, x, e8m0Half(e));
  },
  /** Scales of 16: peak / 6 in E4M3, rounded to nearest. ggml's own encoder rounds halves up, saturates from 256 and below 2⁻⁶. */
  NVFP4(x, out, at) {
    const field = fieldOffsets.NVFP4;
    for (let sub = 0; sub < 4; sub++) {
      const part = x.subarray(16 * sub, 16 * sub + 16);
      const byte = toUnsignedE4m3(f32(Math.abs(signedPeak(part)) / 6));
      out[at + field.d + sub] = byte;
      putCodes(out, at + field.qs + 8 * sub, part, unsignedE4m3(byte) / 2);
    }
  },
} satisfies Record<string, BlockEncoder>;
