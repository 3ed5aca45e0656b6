import { OptionError, reshape, sub, type Tensor } from '@filigree/core-tensor';
import { checkIntegers, defineMethod } from '../method.js';
import { blockScores } from '../select/block-scores.js';
import { loweredWithRanges, sinksAndWindow } from '../select/lowered-with-ranges.js';
import { poolBlocks } from '../select/pool-blocks.js';
import { rowStats } from '../select/row-stats.js';
import { selectRow } from '../select/select-row.js';
import { isShort } from '../select/step.js';
import type { SelectContext, Selector } from '../selector.js';

export interface AnchorAttentionOptions {
  /** How far below the anchor the score of a kept key may lie, natural logarithm. */
  readonly theta: number;
  /** Queries that share an anchor, and keys per block of the first pass. */
  readonly block: number;
  /** Blocks of queries that share their stripes. */
  readonly step: number;
  /** First blocks of keys, attended to exactly. */
  readonly initBlocks: number;
  /** Blocks of keys up to the query's own, attended to exactly. */
  readonly localBlocks: number;
  /** Up to so many keys attention is dense. */
  readonly denseBelow: number;
}

/**
 * AnchorAttention: single keys whose scores lie close to the local maximum. First block and own block are attended to exactly; the mean over a block's queries of their
 * greatest score there is its anchor. A key outside is kept for a block if its score with the block's mean query is at least the anchor − theta, and every
 * one of `step` blocks sees the keys that any of them keeps, as columns.
 *
 * The estimate takes 1/block of the products. Mean queries hide what a single query looks for.
 * "AnchorAttention: Difference-Aware Sparse Attention with Stripe Granularity", arXiv:2505.23520.
 *
 * @throws OptionError when an option is out of its range.
 */
export function anchorAttention(options: AnchorAttentionOptions): Selector {
  const { theta, block, step, initBlocks, localBlocks, denseBelow } = options;
  checkIntegers('anchor-attention', { block, step, localBlocks }, 1);
  checkIntegers('anchor-attention', { initBlocks, denseBelow });
  if (Number.isNaN(theta)) throw new OptionError('anchor-attention: theta is not a number');
  // A row block counts from its first query on: a window of 1 is the keys from that query to the last one.
  const exact = sinksAndWindow(initBlocks * block, 1 + (localBlocks - 1) * block);
  return {
    select(context) {
      if (isShort(context, denseBelow)) return 'dense';
      const { lengths } = context;
      const first = loweredWithRanges(context, exact, {}, { blockQ: block });
      const differences = sub(meanScores(context, block), anchors(context, first.plan, block));
      const shared = poolBlocks(differences, { block: step, mode: 'max' });
      const { bits: columns } = selectRow(shared, { lengths, threshold: -theta, blockQ: block * step });
      const stripes = loweredWithRanges(context, exact, { columns }, { blockQ: block, excluded: exact.length });
      return { parts: [first, stripes] };
    },
  };
}

/** Mean over each block of queries of their greatest score in the first pass, [B, Hq, R, 1]. */
function anchors(context: SelectContext, plan: Tensor, block: number): Tensor {
  const { q, k, table, scale, softcap, queryLayout, lengths } = context;
  const { largest } = rowStats(q, k, plan, { table, scale, softcap, queryLayout });
  return poolBlocks(reshape(largest, [...largest.shape, 1]), { block, lengths });
}

/** Scores of every key with each block's mean query, [B, Hq, R, K]; −1e30 for keys behind the block. */
function meanScores(context: SelectContext, block: number): Tensor {
  const { q, k, table, scale, lengths, kvMap, queryLayout } = context;
  const means = poolBlocks(q, { block, layout: queryLayout, lengths });
  const keys = poolBlocks(k, { block: 1, layout: 'pages', table, lengths });
  return blockScores(means, keys, { scale, blockQ: block, blockK: 1, softmax: false, lengths, kvMap });
}

/** {@link anchorAttention} in the catalogue. */
export const anchorAttentionMethod = /* @__PURE__ */ defineMethod({
  id: 'anchor-attention',
  title: 'AnchorAttention: stripes near the local maximum',
  paper: 'arXiv:2505.23520',
  phase: 'prefill',
  training: 'none',
  emits: 'ranges, then columns',
  options: { theta: 12, block: 128, step: 16, initBlocks: 1, localBlocks: 1, denseBelow: 0 },
  policy: (options) => ({ kind: 'selector', selector: anchorAttention(options) }),
});
