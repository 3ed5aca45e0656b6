import type { BlockType } from './block-fields.js';
import { groupedFormulas } from '../grouped/block-formulas.js';
import { groupedLevel } from '../grouped/levels.js';
import { groupedType } from '../grouped/types.js';
import { e2m1Doubled, nonLinear } from './levels.js';
import { ggufLayout } from './types.js';

/**
 * What a block means, as text that is also checked: expressions in the syntax that C and JavaScript share (and `**`, the power), over the fields of a block, the
 * element e and its group t. A test evaluates them and compares with the decoder; the pages in docs/formats print them.
 *
 * A field of one value stands for the value, a field of several for the array; {@link formulaFunctions} and {@link formulaTables} are known.
 */
export interface BlockFormula {
  /** Elements that share a scale of their own within the block; t = e / group, rounded down. */
  readonly group?: number;
  /** Steps on the way to a value. */
  readonly helpers?: Readonly<Record<string, string>>;
  /** What is stored in bits: `q`, the code of element e, and what belongs to group t. */
  readonly values: Readonly<Record<string, string>>;
  /** The weight of element e. */
  readonly weight: string;
  /** What each field holds. */
  readonly meanings: Readonly<Record<string, string>>;
}

const nibbleOf32 = '(qs[e & 15] >> (4 * (e >> 4))) & 15';
const nibbleOf64 = '(qs[32 * (e >> 6) + (e & 31)] >> (4 * ((e >> 5) & 1))) & 15';
const pairOf128 = '(qs[32 * (e >> 7) + (e & 31)] >> (2 * ((e >> 5) & 3))) & 3';
const fifthBit = '(((qh >> e) & 1) << 4)';

const scale = 'scale of the block';
const offset = 'smallest weight of the block';
const superScale = 'scale of the scales';
const superMinimum = 'scale of the minima';
const nibbles = 'codes: two elements a byte';
const lowNibbles = 'lower four bits of the codes';
const upperBits = 'fifth bit of the codes';

/** Scales and minima of six bits, as Q4_K and Q5_K pack them. */
const sixBits = {
  scale: 't < 4 ? scales[t] & 63 : (scales[t + 4] & 15) | ((scales[t - 4] >> 6) << 4)',
  minimum: 't < 4 ? scales[t + 4] & 63 : (scales[t + 4] >> 4) | ((scales[t] >> 6) << 4)',
};

/** By GGUF type name; {@link blockFormula} has the grouped types too. */
export const blockFormulas: Readonly<Record<BlockType, BlockFormula>> = /* @__PURE__ */ (() => ({
  F32: { values: {}, weight: 'value', meanings: { value: 'the weight, IEEE single precision' } },
  F16: {
    values: {},
    weight: 'value',
    meanings: { value: 'the weight, IEEE half precision: 1 sign, 5 exponent, 10 fraction bits' },
  },
  BF16: { values: {}, weight: 'value', meanings: { value: 'the weight: the upper half of an IEEE single' } },
  Q4_0: {
    values: { q: nibbleOf32 },
    weight: 'd * (q - 8)',
    meanings: { d: scale, qs: nibbles },
  },
  Q4_1: {
    values: { q: nibbleOf32 },
    weight: 'd * q + m',
    meanings: { d: scale, m: offset, qs: nibbles },
  },
  Q5_0: {
    values: { q: `(${nibbleOf32}) | ${fifthBit}` },
    weight: 'd * (q - 16)',
    meanings: { d: scale, qh: upperBits, qs: lowNibbles },
  },
  Q5_1: {
    values: { q: `(${nibbleOf32}) | ${fifthBit}` },
    weight: 'd * q + m',
    meanings: { d: scale, m: offset, qh: upperBits, qs: lowNibbles },
  },
  Q8_0: {
    values: { q: 'qs[e]' },
    weight: 'd * q',
    meanings: { d: scale, qs: 'codes in their order' },
  },
  Q2_K: {
    group: 16,
    values: { scale: 'scales[t] & 15', minimum: 'scales[t] >> 4', q: pairOf128 },
    weight: 'd * scale * q - dmin * minimum',
    meanings: {
      scales: 'scale and minimum of each group',
      qs: 'codes: four elements a byte',
      d: superScale,
      dmin: superMinimum,
    },
  },
  Q3_K: {
    group: 16,
    values: {
      scale: '(t < 8 ? scales[t] & 15 : scales[t - 8] >> 4) | (((scales[8 + (t & 3)] >> (2 * (t >> 2))) & 3) << 4)',
      q: `(${pairOf128}) | (((hmask[e & 31] >> (e >> 5)) & 1) << 2)`,
    },
    weight: 'd * (scale - 32) * (q - 4)',
    meanings: {
      hmask: 'third bit of the codes',
      qs: 'lower two bits of the codes',
      scales: 'scales of the groups, packed',
      d: superScale,
    },
  },
  Q4_K: {
    group: 32,
    values: { ...sixBits, q: nibbleOf64 },
    weight: 'd * scale * q - dmin * minimum',
    meanings: { d: superScale, dmin: superMinimum, scales: 'scales and minima of the groups, packed', qs: nibbles },
  },
  Q5_K: {
    group: 32,
    values: { ...sixBits, q: `(${nibbleOf64}) | (((qh[e & 31] >> t) & 1) << 4)` },
    weight: 'd * scale * q - dmin * minimum',
    meanings: {
      d: superScale,
      dmin: superMinimum,
      scales: 'scales and minima of the groups, packed',
      qh: upperBits,
      qs: lowNibbles,
    },
  },
  Q6_K: {
    group: 16,
    values: {
      scale: 'scales[t]',
      q:
        '((ql[64 * (e >> 7) + (e & 63)] >> (4 * ((e >> 6) & 1))) & 15)' +
        ' | (((qh[32 * (e >> 7) + (e & 31)] >> (2 * ((e >> 5) & 3))) & 3) << 4)',
    },
    weight: 'd * scale * (q - 32)',
    meanings: { ql: lowNibbles, qh: 'upper two bits of the codes', scales: 'scales of the groups', d: superScale },
  },
  IQ4_NL: {
    values: { q: nibbleOf32 },
    weight: 'd * NL[q]',
    meanings: { d: scale, qs: nibbles },
  },
  IQ4_XS: {
    group: 32,
    values: {
      scale: '((scales_l[t >> 1] >> (4 * (t & 1))) & 15) | (((scales_h >> (2 * t)) & 3) << 4)',
      q: '(qs[16 * t + (e & 15)] >> (4 * ((e >> 4) & 1))) & 15',
    },
    weight: 'd * (scale - 32) * NL[q]',
    meanings: {
      d: superScale,
      scales_h: 'upper two bits of the scales of the groups',
      scales_l: 'lower four bits of them',
      qs: nibbles,
    },
  },
  MXFP4: {
    values: { q: nibbleOf32 },
    weight: 'E8M0(exponent) * E2M1[q]',
    meanings: { exponent: 'scale of the block, a power of two', qs: nibbles },
  },
  NVFP4: {
    group: 16,
    values: { q: '(qs[8 * t + (e & 7)] >> (4 * ((e >> 3) & 1))) & 15' },
    weight: 'UE4M3(d[t]) * E2M1[q]',
    meanings: { d: 'scales of the groups', qs: nibbles },
  },
  TQ1_0: {
    helpers: {
      byte: 'e < 160 ? qs[e & 31] : e < 240 ? qs[32 + (e & 15)] : qh[e & 3]',
      n: 'e < 160 ? e >> 5 : e < 240 ? (e - 160) >> 4 : (e - 240) >> 2',
    },
    values: { q: '(((byte * 3 ** n) & 255) * 3) >> 8' },
    weight: 'd * (q - 1)',
    meanings: { qs: 'codes: five base-3 digits a byte', qh: 'codes: four base-3 digits a byte', d: scale },
  },
  TQ2_0: {
    values: { q: pairOf128 },
    weight: 'd * (q - 1)',
    meanings: { qs: 'codes: four elements a byte', d: scale },
  },
  Q1_0: {
    values: { q: '(qs[e >> 3] >> (e & 7)) & 1' },
    weight: 'd * (2 * q - 1)',
    meanings: { d: scale, qs: 'codes in their order: eight elements a byte' },
  },
  Q2_0: {
    values: { q: '(qs[e >> 2] >> (2 * (e & 3))) & 3' },
    weight: 'd * (q - 1)',
    meanings: { d: scale, qs: 'codes in their order: four elements a byte' },
  },
}))();

/** What a block of the type means; throws an OptionError with the list of known types for any other. */
export function blockFormula(type: string): BlockFormula {
  const grouped = groupedType(type);
  return grouped ? groupedFormulas[grouped.kind] : blockFormulas[ggufLayout(type).name as BlockType];
}

/** Bits of the floating-point numbers in blocks, from the top: sign, exponent, fraction; and the exponent's bias. */
export const floatFormats = {
  f32: { sign: 1, exponent: 8, fraction: 23, bias: 127 },
  f16: { sign: 1, exponent: 5, fraction: 10, bias: 15 },
  bf16: { sign: 1, exponent: 8, fraction: 7, bias: 127 },
} as const;

/** Functions of a byte x that formulas call. */
export const formulaFunctions = {
  E8M0: '2 ** (x - 127)',
  UE4M3: 'x == 0 || x == 127 ? 0 : x < 8 ? x * 2 ** -9 : (1 + (x & 7) / 8) * 2 ** ((x >> 3) - 7)',
  E4M3:
    '(x & 127) == 127 ? NaN : (x & 128 ? -1 : 1) *' +
    ' ((x & 127) < 8 ? (x & 7) * 2 ** -9 : (1 + (x & 7) / 8) * 2 ** (((x >> 3) & 15) - 7))',
  E5M2:
    '(x & 128 ? -1 : 1) * ((x & 127) < 4 ? (x & 3) * 2 ** -16 : (x & 127) >= 124 ? ((x & 3) ? NaN : Infinity)' +
    ' : (1 + (x & 3) / 4) * 2 ** (((x >> 2) & 31) - 15))',
} as const;

/** Tables of levels that formulas index with a code. */
export const formulaTables = /* @__PURE__ */ (() => ({
  NL: nonLinear as readonly number[],
  E2M1: e2m1Doubled.map((level) => level / 2) as readonly number[],
  NF4: Array.from(nonLinear, (_, code) => groupedLevel('NF4', code)) as readonly number[],
  FP4: Array.from(nonLinear, (_, code) => groupedLevel('FP4', code)) as readonly number[],
}))();
