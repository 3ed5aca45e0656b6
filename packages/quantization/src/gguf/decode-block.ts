import { f16ToNumber } from '@filigree/core-tensor';
import { e2m1Doubled, nonLinear } from './levels.js';
import { e8m0Half, iq4Scale, q3Scale, scaleAndMinimum, unsignedE4m3 } from './scales.js';

/** Reads one block at byte `at` and writes its elements to `out` from `to`. Layouts: ggml-org/ggml, src/ggml-common.h. */
export type BlockDecoder = (bytes: Uint8Array, at: number, out: Float64Array | Float32Array, to: number) => void;

function half(bytes: Uint8Array, at: number): number {
  return f16ToNumber(bytes[at] | (bytes[at + 1] << 8));
}

/** 32-element blocks of nibbles: element e < 16 is the low nibble of byte e, the others the high nibble of byte e − 16. */
function nibble(bytes: Uint8Array, at: number, e: number): number {
  return e < 16 ? bytes[at + e] & 15 : bytes[at + e - 16] >> 4;
}

function fifthBit(bytes: Uint8Array, at: number, e: number): number {
  return (bytes[at + (e >> 3)] >> (e & 7)) & 1;
}

function block32(value: (bytes: Uint8Array, at: number, e: number) => number): BlockDecoder {
  return (bytes, at, out, to) => {
    for (let e = 0; e < 32; e++) out[to + e] = value(bytes, at, e);
  };
}

function block256(value: (bytes: Uint8Array, at: number, e: number) => number): BlockDecoder {
  return (bytes, at, out, to) => {
    for (let e = 0; e < 256; e++) out[to + e] = value(bytes, at, e);
  };
}

/** Two-bit code of element e in the 64 bytes at `at`, as Q2_K, Q3_K and TQ2_0 lay them out. */
function twoBits(bytes: Uint8Array, at: number, e: number): number {
  return (bytes[at + 32 * (e >> 7) + (e & 31)] >> (2 * ((e >> 5) & 3))) & 3;
}

/** Nibble of element e in the 128 bytes at `at`, as Q4_K and Q5_K lay them out. */
function nibbleOf64(bytes: Uint8Array, at: number, e: number): number {
  const byte = bytes[at + 32 * (e >> 6) + (e & 31)];
  return (e & 63) < 32 ? byte & 15 : byte >> 4;
}

/** Digit of element e of a TQ1_0 block at `at`. */
export function ternaryDigit(bytes: Uint8Array, at: number, e: number): number {
  const [byte, digit] =
    e < 160
      ? [bytes[at + (e & 31)], e >> 5]
      : e < 240
        ? [bytes[at + 32 + ((e - 160) & 15)], (e - 160) >> 4]
        : [bytes[at + 48 + ((e - 240) & 3)], (e - 240) >> 2];
  return (((byte * 3 ** digit) & 255) * 3) >> 8;
}

/** Decoders by GGUF type name. */
export const blockDecoders: Readonly<Record<string, BlockDecoder>> = {
  Q4_0: block32((b, at, e) => half(b, at) * (nibble(b, at + 2, e) - 8)),
  Q4_1: block32((b, at, e) => half(b, at) * nibble(b, at + 4, e) + half(b, at + 2)),
  Q5_0: block32((b, at, e) => half(b, at) * (nibble(b, at + 6, e) + 16 * fifthBit(b, at + 2, e) - 16)),
  Q5_1: block32((b, at, e) => half(b, at) * (nibble(b, at + 8, e) + 16 * fifthBit(b, at + 4, e)) + half(b, at + 2)),
  Q8_0: block32((b, at, e) => half(b, at) * ((b[at + 2 + e] << 24) >> 24)),
  IQ4_NL: block32((b, at, e) => half(b, at) * nonLinear[nibble(b, at + 2, e)]),
  MXFP4: block32((b, at, e) => e8m0Half(b[at]) * e2m1Doubled[nibble(b, at + 1, e)]),
  NVFP4: (b, at, out, to) => {
    for (let e = 0; e < 64; e++) {
      const [sub, k] = [e >> 4, e & 15];
      const byte = b[at + 4 + 8 * sub + (k & 7)];
      out[to + e] = (unsignedE4m3(b[at + sub]) / 2) * e2m1Doubled[k < 8 ? byte & 15 : byte >> 4];
    }
  },
  Q2_K: block256(
    (b, at, e) =>
      half(b, at + 80) * (b[at + (e >> 4)] & 15) * twoBits(b, at + 16, e) - half(b, at + 82) * (b[at + (e >> 4)] >> 4),
  ),
  Q3_K: block256((b, at, e) => {
    const high = (b[at + (e & 31)] >> (e >> 5)) & 1;
    return half(b, at + 108) * (q3Scale(b, at + 96, e >> 4) - 32) * (twoBits(b, at + 32, e) + 4 * high - 4);
  }),
  Q4_K: block256((b, at, e) => {
    const { scale, minimum } = scaleAndMinimum(b, at + 4, e >> 5);
    return half(b, at) * scale * nibbleOf64(b, at + 16, e) - half(b, at + 2) * minimum;
  }),
  Q5_K: block256((b, at, e) => {
    const { scale, minimum } = scaleAndMinimum(b, at + 4, e >> 5);
    const q = nibbleOf64(b, at + 48, e) + 16 * ((b[at + 16 + (e & 31)] >> (e >> 5)) & 1);
    return half(b, at) * scale * q - half(b, at + 2) * minimum;
  }),
  Q6_K: block256((b, at, e) => {
    const [h, j, l] = [e >> 7, (e >> 5) & 3, e & 31];
    const low = b[at + 64 * h + 32 * (j & 1) + l];
    const q = (j < 2 ? low & 15 : low >> 4) + 16 * ((b[at + 128 + 32 * h + l] >> (2 * j)) & 3);
    return half(b, at + 208) * ((b[at + 192 + (e >> 4)] << 24) >> 24) * (q - 32);
  }),
  IQ4_XS: block256((b, at, e) => {
    const t = e >> 5;
    return half(b, at) * iq4Scale(b, at, t) * nonLinear[nibble(b, at + 8 + 16 * t, e & 31)];
  }),
  TQ1_0: block256((b, at, e) => half(b, at + 52) * (ternaryDigit(b, at, e) - 1)),
  TQ2_0: block256((b, at, e) => half(b, at + 64) * (twoBits(b, at, e) - 1)),
  Q1_0: (b, at, out, to) => {
    for (let e = 0; e < 128; e++) out[to + e] = (b[at + 2 + (e >> 3)] >> (e & 7)) & 1 ? half(b, at) : -half(b, at);
  },
  Q2_0: (b, at, out, to) => {
    for (let e = 0; e < 64; e++) out[to + e] = half(b, at) * (((b[at + 2 + (e >> 2)] >> (2 * (e & 3))) & 3) - 1);
  },
};
