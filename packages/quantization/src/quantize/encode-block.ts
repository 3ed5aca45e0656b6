import { numberToF16 } from '@filigree/core-tensor';

/** Writes the block of the weights `x`, as many as the type's blocks have and all finite, to zeroed bytes from `at`. */
export type BlockEncoder = (x: Float32Array, out: Uint8Array, at: number) => void;

/** Rounds to half precision, stores it, and returns its bits. */
export function putHalf(out: Uint8Array, at: number, value: number): number {
  const half = numberToF16(value);
  out[at] = half & 255;
  out[at + 1] = half >> 8;
  return half;
}

/** 32 codes as nibbles in 16 bytes: the first half low, the second half high. */
export function putNibbles(out: Uint8Array, at: number, codes: ArrayLike<number>, first = 0): void {
  for (let e = 0; e < 16; e++) out[at + e] = (codes[first + e] & 15) | ((codes[first + 16 + e] & 15) << 4);
}

/** Fifth bits of 32 codes, in order. */
export function putFifthBits(out: Uint8Array, at: number, codes: ArrayLike<number>): void {
  for (let e = 0; e < 32; e++) out[at + (e >> 3)] |= ((codes[e] >> 4) & 1) << (e & 7);
}

/** The lower two bits of 256 codes in 64 bytes, as Q2_K, Q3_K and TQ2_0 lay them out. */
export function putTwoBits(out: Uint8Array, at: number, codes: ArrayLike<number>): void {
  for (let e = 0; e < 256; e++) out[at + 32 * (e >> 7) + (e & 31)] |= (codes[e] & 3) << (2 * ((e >> 5) & 3));
}

/** The lower four bits of 256 codes in 128 bytes, as Q4_K and Q5_K lay them out. */
export function putNibblesOf64(out: Uint8Array, at: number, codes: ArrayLike<number>): void {
  for (let e = 0; e < 256; e++) out[at + 32 * (e >> 6) + (e & 31)] |= (codes[e] & 15) << ((e & 63) < 32 ? 0 : 4);
}
