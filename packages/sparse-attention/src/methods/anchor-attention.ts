import { add, concat, OptionError, reshape, scope, slice, type Tensor } from '@filigree/core-tensor';
import { checkIntegers, defineMethod } from '../method.js';
import { attentionStats } from '../ops/attention-stats.js';
import { keyCapacity } from '../ops/check.js';
import { loweredWithRanges, sinksAndWindow } from '../select/lowered-with-ranges.js';
import { lowerSelection } from '../select/lower-selection.js';
import { poolBlocks } from '../select/pool-blocks.js';
import { rowStats } from '../select/row-stats.js';
import { selectRow } from '../select/select-row.js';
import { constant, isShort } from '../select/step.js';
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
 * one of `step` blocks sees the keys that any of them keeps, as columns. Weights are compared, e^(score − anchor): thetas beyond 87 keep everything.
 *
 * The estimate takes 1/block of the products and holds one weight per head and key, for the blocks of one step at a time. Mean queries hide what a single query looks for.
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
      const first = loweredWithRanges(context, exact, {}, { blockQ: block });
      const columns = scope(() => keptKeys(context, first.plan, options));
      const stripes = loweredWithRanges(context, exact, { columns }, { blockQ: block, excluded: exact.length });
      return { parts: [first, stripes] };
    },
  };
}

/** Mean over each block of queries of their greatest score in the first pass, [B, Hq, R, 1]. */
function anchorsOf(context: SelectContext, plan: Tensor, block: number): Tensor {
  const { q, k, table, scale, softcap, queryLayout, lengths } = context;
  const { largest } = rowStats(q, k, plan, { table, scale, softcap, queryLayout });
  return poolBlocks(reshape(largest, [...largest.shape, 1]), { block, lengths });
}

/** Bits of the keys that some block of a step keeps, [B, Hq, steps, W]. */
function keptKeys(context: SelectContext, plan: Tensor, { theta, block, step }: AnchorAttentionOptions): Tensor {
  const { q, queryLayout, lengths, lenQ } = context;
  const anchors = scope(() => anchorsOf(context, plan, block));
  const means = poolBlocks(q, { block, layout: queryLayout, lengths });
  const [, heads, blocks] = means.shape;
  const threshold = Math.min(Math.exp(-theta), 3e38);
  const elements = lenQ.map((_, element) => {
    const steps = Array.from({ length: Math.ceil(blocks / step) }, (__, index) =>
      scope(() => {
        const [from, count] = [index * step, Math.min(step, blocks - index * step)];
        const rows = (x: Tensor): Tensor => slice(x, [element, 0, from, 0], [1, heads, count, x.shape[3]]);
        const weights = weightsOf(context, { element, from, block }, rows(means), rows(anchors));
        return selectRow(weights, { threshold }).bits;
      }),
    );
    return concat(steps, 2);
  });
  return concat(elements, 0);
}

/** Greatest e^(score − anchor) of every key with the mean queries [1, Hq, count, D] of the blocks from `from` on that see it, [1, Hq, 1, K]. */
function weightsOf(
  context: SelectContext,
  { element, from, block }: { readonly element: number; readonly from: number; readonly block: number },
  means: Tensor,
  anchors: Tensor,
): Tensor {
  const { k, table, scale, softcap, kvMap } = context;
  const [, heads, count] = means.shape;
  const lenQ = context.lenQ[element];
  const own = Math.max(0, Math.min(count, Math.ceil(lenQ / block) - from));
  // Blocks stand at the end of the keys, one position each: none stands before its last query. Ranges count backwards from there to that query.
  const ends = Array.from({ length: count }, (_, index) => [
    0,
    Math.min(0, Math.min((from + index + 1) * block, lenQ) - lenQ + own - index - 1),
  ]);
  const lengths = add(slice(context.lengths, [element, 0], [1, 2]), constant(context, [own - lenQ, 0], [1, 2], 'i32'));
  const { plan } = lowerSelection(
    { ranges: constant(context, ends.flat(), [count, 1, 2], 'i32'), lengths, kvMap },
    { lengthQ: count, heads, capacity: keyCapacity(k, table), blockQ: 1 },
  );
  const pages = table ? slice(table, [element, 0], [1, table.shape[1]]) : constant(context, [element], [1, 1], 'i32');
  const call = { table: pages, scale, softcap, blockQ: count, blockK: 1, reduce: 'max' } as const;
  return attentionStats(means, k, plan, reshape(anchors, [1, heads, count]), call);
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
