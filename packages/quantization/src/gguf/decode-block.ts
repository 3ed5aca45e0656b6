import { f16ToNumber } from '@filigree/core-tensor';
import { fieldOffsets, type BlockType, type FieldOffsets } from './block-fields.js';
import { e2m1Doubled, nonLinear } from './levels.js';
import { e8m0Half, iq4Scale, q3Scale, scaleAndMinimum, unsignedE4m3 } from './scales.js';
import { ggufLayout } from './types.js';

/** Reads one block at byte `at` and writes its elements to `out` from `to`. Layouts: ggml-org/ggml, src/ggml-common.h. */
export type BlockDecoder = (bytes: Uint8Array, at: number, out: Float64Array | Float32Array, to: number) => void;

function half(bytes: Uint8Array, at: number): number {
  return f16ToNumber(bytes[at] | (bytes[at + 1] << 8));
}

function signed(byte: number): number {
  return (byte << 24) >> 24;
}

/** 32-element blocks of nibbles: element e < 16 is the low nibble of byte e, the others the high nibble of byte e − 16. */
function nibble(bytes: Uint8Array, at: number, e: number): number {
  return e < 16 ? bytes[at + e] & 15 : bytes[at + e - 16] >> 4;
}

function fifthBit(bytes: Uint8Array, at: number, e: number): number {
  return (bytes[at + (e >> 3)] >> (e & 7)) & 1;
}

/** A decoder from what one element is, which is told where the fields of the type lie. */
function decoder<T extends BlockType>(
  type: T,
  value: (bytes: Uint8Array, at: number, e: number, field: FieldOffsets<T>) => number,
): BlockDecoder {
  const { elements } = ggufLayout(type);
  const field: FieldOffsets<T> = fieldOffsets[type];
  return (bytes, at, out, to) => {
    for (let e = 0; e < elements; e++) out[to + e] = value(bytes, at, e, field);
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
  const { qs, qh } = fieldOffsets.TQ1_0;
  const [byte, digit] =
    e < 160
      ? [bytes[at + qs + (e & 31)], e >> 5]
      : e < 240
        ? [bytes[at + qs + 32 + (e & 15)], (e - 160) >> 4]
        : [bytes[at + qh + (e & 3)], (e - 240) >> 2];
  return (((byte * 3 ** digit) & 255) * 3) >> 8;
}

/** Decoders of the types with blocks of several elements, by GGUF type name. */
export const blockDecoders: Readonly<Record<string, BlockDecoder>> = /* @__PURE__ */ (() => ({
  Q4_0: decoder('Q4_0', (b, at, e, { d, qs }) => half(b, at + d) * (nibble(b, at + qs, e) - 8)),
  Q4_1: decoder('Q4_1', (b, at, e, { d, m, qs }) => half(b, at + d) * nibble(b, at + qs, e) + half(b, at + m)),
  Q5_0: decoder('Q5_0', (b, at, e, { d, qh, qs }) => {
    return half(b, at + d) * (nibble(b, at + qs, e) + 16 * fifthBit(b, at + qh, e) - 16);
  }),
  Q5_1: decoder('Q5_1', (b, at, e, { d, m, qh, qs }) => {
    return half(b, at + d) * (nibble(b, at + qs, e) + 16 * fifthBit(b, at + qh, e)) + half(b, at + m);
  }),
  Q8_0: decoder('Q8_0', (b, at, e, { d, qs }) => half(b, at + d) * signed(b[at + qs + e])),
  IQ4_NL: decoder('IQ4_NL', (b, at, e, { d, qs }) => half(b, at + d) * nonLinear[nibble(b, at + qs, e)]),
  MXFP4: decoder('MXFP4', (b, at, e, { exponent, qs }) => e8m0Half(b[at + exponent]) * e2m1Doubled[nibble(b, at + qs, e)]),
  NVFP4: decoder('NVFP4', (b, at, e, { d, qs }) => {
    const byte = b[at + qs + 8 * (e >> 4) + (e & 7)];
    return (unsignedE4m3(b[at + d + (e >> 4)]) / 2) * e2m1Doubled[(e & 15) < 8 ? byte & 15 : byte >> 4];
  }),
  Q2_K: decoder('Q2_K', (b, at, e, { scales, qs, d, dmin }) => {
    const both = b[at + scales + (e >> 4)];
    return half(b, at + d) * (both & 15) * twoBits(b, at + qs, e) - half(b, at + dmin) * (both >> 4);
  }),
  Q3_K: decoder('Q3_K', (b, at, e, { hmask, qs, scales, d }) => {
    const high = (b[at + hmask + (e & 31)] >> (e >> 5)) & 1;
    return half(b, at + d) * (q3Scale(b, at + scales, e >> 4) - 32) * (twoBits(b, at + qs, e) + 4 * high - 4);
  }),
  Q4_K: decoder('Q4_K', (b, at, e, { d, dmin, scales, qs }) => {
    const { scale, minimum } = scaleAndMinimum(b, at + scales, e >> 5);
    return half(b, at + d) * scale * nibbleOf64(b, at + qs, e) - half(b, at + dmin) * minimum;
  }),
  Q5_K: decoder('Q5_K', (b, at, e, { d, dmin, scales, qh, qs }) => {
    const { scale, minimum } = scaleAndMinimum(b, at + scales, e >> 5);
    const q = nibbleOf64(b, at + qs, e) + 16 * ((b[at + qh + (e & 31)] >> (e >> 5)) & 1);
    return half(b, at + d) * scale * q - half(b, at + dmin) * minimum;
  }),
  Q6_K: decoder('Q6_K', (b, at, e, { ql, qh, scales, d }) => {
    const [h, j, l] = [e >> 7, (e >> 5) & 3, e & 31];
    const low = b[at + ql + 64 * h + 32 * (j & 1) + l];
    const q = (j < 2 ? low & 15 : low >> 4) + 16 * ((b[at + qh + 32 * h + l] >> (2 * j)) & 3);
    return half(b, at + d) * signed(b[at + scales + (e >> 4)]) * (q - 32);
  }),
  IQ4_XS: decoder('IQ4_XS', (b, at, e, { d, qs }) => {
    const t = e >> 5;
    return half(b, at + d) * iq4Scale(b, at, t) * nonLinear[nibble(b, at + qs + 16 * t, e & 31)];
  }),
  TQ1_0: decoder('TQ1_0', (b, at, e, { d }) => half(b, at + d) * (ternaryDigit(b, at, e) - 1)),
  TQ2_0: decoder('TQ2_0', (b, at, e, { qs, d }) => half(b, at + d) * (twoBits(b, at + qs, e) - 1)),
  Q1_0: decoder('Q1_0', (b, at, e, { d, qs }) => {
    return (b[at + qs + (e >> 3)] >> (e & 7)) & 1 ? half(b, at + d) : -half(b, at + d);
  }),
  Q2_0: decoder('Q2_0', (b, at, e, { d, qs }) => {
    return half(b, at + d) * (((b[at + qs + (e >> 2)] >> (2 * (e & 3))) & 3) - 1);
  }),
}))();
