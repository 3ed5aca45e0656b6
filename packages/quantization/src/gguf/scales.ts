import { fieldOffsets } from './block-fields.js';

/** Six-bit scale and minimum t (0 … 7) of a Q4_K or Q5_K super-block whose 12 scale bytes start at `at`. */
export function scaleAndMinimum(bytes: Uint8Array, at: number, t: number): { scale: number; minimum: number } {
  if (t < 4) return { scale: bytes[at + t] & 63, minimum: bytes[at + t + 4] & 63 };
  return {
    scale: (bytes[at + t + 4] & 15) | ((bytes[at + t - 4] >> 6) << 4),
    minimum: (bytes[at + t + 4] >> 4) | ((bytes[at + t] >> 6) << 4),
  };
}

/** Six-bit scale t (0 … 15), still biased by 32, of a Q3_K super-block whose 12 scale bytes start at `at`. */
export function q3Scale(bytes: Uint8Array, at: number, t: number): number {
  const low = t < 8 ? bytes[at + t] & 15 : bytes[at + t - 8] >> 4;
  const high = (bytes[at + 8 + (t & 3)] >> (2 * (t >> 2))) & 3;
  return low | (high << 4);
}

/** E8M0: 2^(e − 127); here with the factor ½ of the doubled E2M1 table folded in: 2^(e − 128). */
export function e8m0Half(byte: number): number {
  return 2 ** (byte - 128);
}

/** Unsigned E4M3 as NVFP4 blocks store it; 0 and 0x7F are zero. */
export function unsignedE4m3(byte: number): number {
  if (byte === 0 || byte === 0x7f) return 0;
  const exponent = (byte >> 3) & 15;
  const mantissa = byte & 7;
  return exponent === 0 ? mantissa * 2 ** -9 : (1 + mantissa / 8) * 2 ** (exponent - 7);
}

/** Signed scale t of the IQ4_XS block at `at`. */
export function iq4Scale(bytes: Uint8Array, at: number, t: number): number {
  const { scales_h: upper, scales_l: lower } = fieldOffsets.IQ4_XS;
  const high = (bytes[at + upper + (t >> 2)] >> (2 * (t & 3))) & 3;
  return (((bytes[at + lower + (t >> 1)] >> (4 * (t & 1))) & 15) | (high << 4)) - 32;
}
