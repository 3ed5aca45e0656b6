import { OptionError } from '@filigree/core-tensor';
import { checkIntegers, defineMethod } from '../method.js';
import { antidiagonalScores } from '../select/antidiagonal-scores.js';
import { selectRow } from '../select/select-row.js';
import { isShort, lowered, placed } from '../select/step.js';
import type { Selector } from '../selector.js';

export interface XAttentionOptions {
  /** One antidiagonal of every stride × stride cell is computed. */
  readonly stride: number;
  /** Queries and keys per block; a multiple of `stride`. */
  readonly block: number;
  /** Share of the estimated attention of a block of queries that its blocks of keys hold. */
  readonly threshold: number;
  /** Up to so many keys attention is dense. */
  readonly denseBelow: number;
}

/**
 * XAttention: sums along antidiagonals tell which blocks matter. Every vertical and every slash of attention crosses antidiagonals, where means of blocks even
 * slashes out. An antidiagonal of an even stride has odd distances alone: a slash that has no width is seen at these. A block of queries sees the first block of keys, its own, and then blocks by descending estimated mass until
 * they hold `threshold` of it.
 *
 * The estimate takes 1/stride of the products of queries and keys. Thresholds per head are a plan of heads with one choice each.
 * Xu et al., "XAttention: Block Sparse Attention with Antidiagonal Scoring", arXiv:2503.16428.
 */
export function xAttention({ stride, block, threshold, denseBelow }: XAttentionOptions): Selector {
  checkIntegers('x-attention', { stride, block }, 1);
  checkIntegers('x-attention', { denseBelow });
  if (block % stride !== 0) throw new OptionError(`x-attention: block is ${block}, it must be a multiple of stride, ${stride}`);
  if (!(threshold >= 0 && threshold <= 1)) throw new OptionError(`x-attention: threshold is ${threshold}, it must be in 0 … 1`);
  return {
    select(context) {
      if (isShort(context, denseBelow)) return 'dense';
      const { q, k, scale, lengths } = context;
      const blocks = { blockQ: block, blockK: block };
      const mass = antidiagonalScores(q, k, { ...placed(context), stride, block, scale });
      const { bits } = selectRow(mass, { ...blocks, lengths, topP: threshold, sinks: 1, local: 1 });
      return { parts: [lowered(context, { blocks: bits }, blocks)] };
    },
  };
}

/** {@link xAttention} in the catalogue. */
export const xAttentionMethod = /* @__PURE__ */ defineMethod({
  id: 'x-attention',
  title: 'XAttention: antidiagonal block scoring',
  paper: 'arXiv:2503.16428',
  phase: 'prefill',
  training: 'none',
  emits: 'blocks',
  options: { stride: 16, block: 128, threshold: 0.9, denseBelow: 0 },
  policy: (options) => ({ kind: 'selector', selector: xAttention(options) }),
});
