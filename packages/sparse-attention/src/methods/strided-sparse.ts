import { cellPattern } from '../cell-pattern.js';
import type { Pattern } from '../mask.js';
import { checkChoice, checkIntegers, defineMethod } from '../method.js';
import { every } from './dilated.js';

const splits = ['union', 'byHead'] as const;

export interface StridedSparseOptions {
  /** l: the local part is the last l keys, the strided part every l-th key. About √L costs least. */
  readonly stride: number;
  /** `union`: every head sees both parts; `byHead`: even heads see the local one, odd heads the strided one. */
  readonly split: (typeof splits)[number];
}

/**
 * Sparse Transformer, strided: the last l keys and the keys at distances l, 2l, … of the query, so that two layers reach every earlier token in O(L·√L).
 * For models that were trained with it.
 *
 * Child et al., "Generating Long Sequences with Sparse Transformers", arXiv:1904.10509; the default stride is fairseq's.
 *
 * @throws OptionError when stride is not a positive integer or split is none of the two.
 */
export function stridedSparse({ stride, split }: StridedSparseOptions): Pattern {
  checkIntegers('strided-sparse', { stride }, 1);
  return (shape) =>
    cellPattern(
      shape,
      ({ position, mask }) => {
        const local: [number, number] = [position + 1 - stride, position + 1];
        const strided = every(position, stride, Infinity);
        if (split === 'union') return [local, ...strided];
        return mask === 0 ? [local] : strided;
      },
      { masks: split === 'union' ? 1 : Math.min(2, shape.heads) },
    );
}

/** {@link stridedSparse} in the catalogue. */
export const stridedSparseMethod = /* @__PURE__ */ defineMethod({
  id: 'strided-sparse',
  title: 'Strided (Sparse Transformer)',
  paper: 'arXiv:1904.10509',
  phase: 'both',
  training: 'full',
  emits: 'ranges with row bits',
  options: { stride: 32, split: 'union' },
  policy: ({ stride, split }) => ({
    kind: 'pattern',
    pattern: stridedSparse({ stride, split: checkChoice('strided-sparse', 'split', split, splits) }),
  }),
});
