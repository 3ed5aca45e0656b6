import { cellPattern } from '../cell-pattern.js';
import type { Pattern } from '../mask.js';
import { checkIntegers, defineMethod } from '../method.js';
import { OptionError } from '@filigree/core-tensor';

export interface MoaWindowOptions {
  /** Tokens of the span at any length. */
  readonly alpha: number;
  /** Tokens that the span grows by with every token of the prompt. */
  readonly beta: number;
  /** First blocks that everyone sees. */
  readonly sinkBlocks: number;
  /** Tokens per block: positions are counted in blocks. */
  readonly block: number;
}

/**
 * MoA: an elastic window. At N tokens of prompt the span is α + β·N, rounded to blocks and at least one; a query sees the sink blocks and the newest
 * blocks of its span, its own included. Which (α, β) a head needs is found by calibration, as a plan of heads; the defaults are half of the prompt for all.
 *
 * Fu et al., "MoA: Mixture of Sparse Attention for Automatic Large Language Model Compression", arXiv:2406.14909.
 *
 * @throws OptionError when block is not a positive integer, sinkBlocks not a non-negative one, or beta lies outside of 0 … 1.
 */
export function moaWindow({ alpha, beta, sinkBlocks, block }: MoaWindowOptions): Pattern {
  checkIntegers('moa-window', { block }, 1);
  checkIntegers('moa-window', { sinkBlocks });
  if (!Number.isInteger(alpha)) throw new OptionError(`moa-window: alpha is ${alpha}, it must be an integer`);
  if (!(beta >= 0 && beta <= 1)) throw new OptionError(`moa-window: beta is ${beta}, it must lie in 0 … 1`);
  return (shape) =>
    cellPattern(shape, ({ position, promptEnd }) => {
      const span = Math.max(1, Math.round((alpha + beta * promptEnd) / block));
      const own = Math.floor(position / block);
      return [
        [0, sinkBlocks * block],
        [(own + 1 - span) * block, position + 1],
      ];
    });
}

/** {@link moaWindow} in the catalogue. */
export const moaWindowMethod = /* @__PURE__ */ defineMethod({
  id: 'moa-window',
  title: 'Elastic window (MoA)',
  paper: 'arXiv:2406.14909',
  phase: 'both',
  training: 'calibration',
  emits: 'ranges',
  options: { alpha: 0, beta: 0.5, sinkBlocks: 1, block: 64 },
  policy: (options) => ({ kind: 'pattern', pattern: moaWindow(options) }),
});
