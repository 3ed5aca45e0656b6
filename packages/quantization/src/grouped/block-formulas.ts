import type { BlockFormula } from '../gguf/block-formulas.js';
import type { GroupedKind } from './types.js';

const scale = 'scale of the block';
const offset = 'added to every weight';
const nibble = '(codes[16 * (e >> 5) + (e & 15)] >> (4 * ((e >> 4) & 1))) & 15';
const nibbles = 'codes: two weights a byte, 16 bytes for 32 weights';
const bytes = 'codes in their order';

/** The formulas of grouped types, whatever the size of the group. */
export const groupedFormulas: Readonly<Record<GroupedKind, BlockFormula>> = {
  INT2: {
    values: { q: '(codes[e >> 2] >> (2 * (e & 3))) & 3' },
    weight: 'scale * q + offset',
    meanings: { scale, offset, codes: 'codes in their order: four weights a byte' },
  },
  INT3: {
    values: {
      q:
        '((codes[12 * (e >> 5) + ((e & 31) >> 2)] >> (2 * (e & 3))) & 3)' +
        ' | (((codes[12 * (e >> 5) + 8 + ((e & 31) >> 3)] >> (e & 7)) & 1) << 2)',
    },
    weight: 'scale * q + offset',
    meanings: { scale, offset, codes: 'codes: for 32 weights eight bytes of lower pairs of bits, then four of third bits' },
  },
  INT4: { values: { q: nibble }, weight: 'scale * q + offset', meanings: { scale, offset, codes: nibbles } },
  INT8: {
    values: { q: 'codes[e]' },
    weight: 'scale * (q - 128) + offset',
    meanings: { scale, offset, codes: bytes },
  },
  NF4: { values: { q: nibble }, weight: 'scale * NF4[q]', meanings: { scale, codes: nibbles } },
  FP4: { values: { q: nibble }, weight: 'scale * FP4[q]', meanings: { scale, codes: nibbles } },
  E4M3: { values: { q: 'codes[e]' }, weight: 'scale * E4M3(q)', meanings: { scale, codes: bytes } },
  E5M2: { values: { q: 'codes[e]' }, weight: 'scale * E5M2(q)', meanings: { scale, codes: bytes } },
};
