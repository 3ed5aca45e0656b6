import type { GroupedKind } from './types.js';

/** NF4: quantiles of the normal distribution (Dettmers et al., arXiv:2305.14314), as bitsandbytes rounds them to f32. */
const nf4 = [
  ...[-1, -0.6961928, -0.52507305, -0.3949175, -0.28444138, -0.18477343, -0.091050036, 0],
  ...[0.0795803, 0.1609302, 0.2461123, 0.33791524, 0.44070983, 0.562617, 0.72295684, 1],
];

/** Magnitudes of the four-bit float of bitsandbytes; code 8 above is the negative. */
const fp4 = [0, 0.0052083335, 0.6666667, 1, 0.33333334, 0.5, 0.16666667, 0.25];

/** E4M3: bias 7, largest 448, no infinities, all bits set is NaN. */
export function e4m3(byte: number): number {
  const sign = byte & 0x80 ? -1 : 1;
  const [exponent, fraction] = [(byte >> 3) & 15, byte & 7];
  if (exponent === 15 && fraction === 7) return NaN;
  return sign * (exponent === 0 ? fraction * 2 ** -9 : (1 + fraction / 8) * 2 ** (exponent - 7));
}

/** E5M2: the upper byte of a half-precision float. */
export function e5m2(byte: number): number {
  const sign = byte & 0x80 ? -1 : 1;
  const [exponent, fraction] = [(byte >> 2) & 31, byte & 3];
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent === 0 ? fraction * 2 ** -16 : (1 + fraction / 4) * 2 ** (exponent - 15));
}

/** What a code of the kind stands for, before it is scaled. */
export function groupedLevel(kind: GroupedKind, code: number): number {
  switch (kind) {
    case 'INT8':
      return code - 128;
    case 'NF4':
      return Math.fround(nf4[code]);
    case 'FP4':
      return Math.fround(code & 8 ? -fp4[code & 7] : fp4[code & 7]);
    case 'E4M3':
      return e4m3(code);
    case 'E5M2':
      return e5m2(code);
    default:
      return code;
  }
}
