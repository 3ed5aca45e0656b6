import { OptionError } from '@filigree/core-tensor';
import { cellPattern } from '../cell-pattern.js';
import type { Pattern } from '../mask.js';
import { checkIntegers, defineMethod } from '../method.js';

export interface FixedSparseOptions {
  /** l: tokens per block. */
  readonly stride: number;
  /** c: last tokens of every earlier block that all later queries see. */
  readonly expressivity: number;
}

/**
 * Sparse Transformer, fixed: a query sees its own block of l tokens, and of the blocks before it the last c tokens, which are to sum their block up. For
 * models that were trained with it.
 *
 * Child et al., "Generating Long Sequences with Sparse Transformers", arXiv:1904.10509; the defaults are fairseq's.
 *
 * @throws OptionError when an option is not a positive integer, or expressivity exceeds stride.
 */
export function fixedSparse({ stride, expressivity }: FixedSparseOptions): Pattern {
  checkIntegers('fixed-sparse', { stride, expressivity }, 1);
  if (expressivity > stride)
    throw new OptionError(`fixed-sparse: expressivity is ${expressivity}, a block has ${stride} tokens`);
  return (shape) =>
    cellPattern(shape, ({ position }) => {
      const own = Math.floor(position / stride);
      const summaries = Array.from({ length: own }, (_, block): [number, number] => [
        (block + 1) * stride - expressivity,
        (block + 1) * stride,
      ]);
      return [...summaries, [own * stride, position + 1]];
    });
}

/** {@link fixedSparse} in the catalogue. */
export const fixedSparseMethod = /* @__PURE__ */ defineMethod({
  id: 'fixed-sparse',
  title: 'Fixed (Sparse Transformer)',
  paper: 'arXiv:1904.10509',
  phase: 'both',
  training: 'full',
  emits: 'ranges, columns',
  options: { stride: 32, expressivity: 8 },
  policy: (options) => ({ kind: 'pattern', pattern: fixedSparse(options) }),
});
