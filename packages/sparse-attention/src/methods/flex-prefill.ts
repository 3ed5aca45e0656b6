import {
  add,
  binary,
  cast,
  div,
  gatherRows,
  mul,
  OptionError,
  reduce,
  reshape,
  sub,
  unary,
  type Tensor,
} from '@filigree/core-tensor';
import { checkIntegers, defineMethod } from '../method.js';
import { blockScores } from '../select/block-scores.js';
import { poolBlocks } from '../select/pool-blocks.js';
import { probeSums } from '../select/probe-sums.js';
import { selectRow } from '../select/select-row.js';
import { constant, isShort, lowered, placed, stepSizes } from '../select/step.js';
import type { SelectContext, Selector } from '../selector.js';

export interface FlexPrefillOptions {
  /** Share of attention that a selection holds. */
  readonly gamma: number;
  /** Distance (Jensen–Shannon) of a head's pooled estimate from its true attention below which the estimate is used. */
  readonly tau: number;
  /** Tokens that verticals hold at least, and slashes alike. */
  readonly minBudget: number;
  /** The same at most; 0: any number. */
  readonly maxBudget: number;
  /** Queries and keys per block; also the queries that are asked. */
  readonly block: number;
  /** Up to so many keys attention is dense. */
  readonly denseBelow: number;
}

/**
 * FlexPrefill: every head decides by its own attention. The last `block` queries give exact attention by key and by distance. Where means of blocks of keys
 * predict it well (distance below `tau`), the head is query-aware: blocks are taken from the softmax of products of means until they hold `gamma` of
 * it, over all rows of blocks together. Otherwise blocks follow verticals and slashes: as many as the greatest keys, and distances, need to hold `gamma`.
 *
 * Budgets are numbers on the device: a head that is not query-aware has a budget of 0 in the query-aware set, one that is has the least of verticals and
 * slashes. O(block·L·D + (L/block)²·D) operations a head.
 * Lai et al., "FlexPrefill: A Context-Aware Sparse Attention Mechanism for Efficient Long-Sequence Inference", arXiv:2502.20766.
 */
export function flexPrefill(options: FlexPrefillOptions): Selector {
  const { gamma, minBudget, maxBudget, block, denseBelow } = options;
  checkIntegers('flex-prefill', { minBudget, maxBudget, denseBelow });
  checkIntegers('flex-prefill', { block }, 1);
  if (!(gamma >= 0 && gamma <= 1)) throw new OptionError(`flex-prefill: gamma is ${gamma}, it must be in 0 … 1`);
  return {
    select(context) {
      if (isShort(context, denseBelow)) return 'dense';
      const { q, k, table, lengths, scale, softcap } = context;
      const { columns, diagonals } = probeSums(q, k, { ...placed(context), rows: block, scale, softcap });
      const keys = poolBlocks(k, { block, layout: 'pages', table, lengths });
      const verticals = blockSums(context, columns, block);
      const aware = queryAware(context, verticals, keys, options);
      const slashes = followed(context, diagonals, blockSums(context, diagonals, block), aware, options);
      const blocks = followed(context, columns, verticals, aware, options);
      const moreBlocks = pooledChoice(context, keys, aware, options);
      return { parts: [lowered(context, { blocks, moreBlocks, slashes }, { blockQ: block, blockK: block, slashStep: block })] };
    },
  };
}

/** Sums of [B,Hq,K] over blocks of keys → [B,Hq,C]. */
function blockSums(context: SelectContext, sums: Tensor, block: number): Tensor {
  const { batch, heads, capacity } = stepSizes(context);
  const means = poolBlocks(reshape(sums, [batch, heads, capacity, 1]), { block });
  const sizes = Array.from({ length: means.shape[2] }, (_, index) => Math.min(block, capacity - index * block));
  return mul(reshape(means, [batch, heads, sizes.length]), constant(context, sizes, [sizes.length]));
}

/** 1 for heads [B,Hq,1] whose pooled estimate is near the true attention of the queries that were asked. */
function queryAware(context: SelectContext, verticals: Tensor, keys: Tensor, { block, tau }: FlexPrefillOptions): Tensor {
  const { batch, lengthQ } = stepSizes(context);
  const { lengths, kvMap, scale, lenQ } = context;
  const asked = lenQ.map((length) => Math.max(1, Math.min(block, length)));
  const truth = div(verticals, constant(context, asked, [batch, 1, 1]));
  const means = lastMeans(context, block);
  const estimate = blockScores(means, keys, { blockQ: lengthQ, blockK: block, lengths, kvMap, scale });
  const distance = divergence(context, truth, reshape(estimate, truth.shape));
  return binary(distance, constant(context, [tau * tau], [1]), 'lt');
}

/** Mean of the last `count` queries of every element, [B,Hq,1,D]. */
function lastMeans(context: SelectContext, count: number): Tensor {
  const { batch, heads, lengthQ, dim } = stepSizes(context);
  const { q, queryLayout, lenQ } = context;
  const rows = Math.min(count, lengthQ);
  const ids: number[] = [];
  for (let element = 0; element < batch; element++) {
    const first = Math.max(0, lenQ[element] - rows);
    for (let head = 0; head < heads; head++) {
      for (let query = first; query < first + rows; query++)
        ids.push(
          queryLayout === 'bhld' ? (element * heads + head) * lengthQ + query : (element * lengthQ + query) * heads + head,
        );
    }
  }
  const last = gatherRows(reshape(q, [batch * heads * lengthQ, dim]), constant(context, ids, [ids.length], 'i32'));
  const lengths = lenQ.flatMap((length) => [Math.min(length, rows), 0]);
  return poolBlocks(reshape(last, [batch, heads, rows, dim]), {
    block: rows,
    lengths: constant(context, lengths, [batch, 2], 'i32'),
  });
}

/** Square of the Jensen–Shannon distance of distributions [B,Hq,C] → [B,Hq,1]; 0 · log 0 is 0. */
function divergence(context: SelectContext, a: Tensor, b: Tensor): Tensor {
  const tiny = constant(context, [1e-30], [1]);
  const half = constant(context, [0.5], [1]);
  const log = (x: Tensor): Tensor => unary(binary(x, tiny, 'max'), 'log');
  const middle = log(mul(add(a, b), half));
  const terms = add(mul(a, sub(log(a), middle)), mul(b, sub(log(b), middle)));
  return mul(reduce(terms, 'sum', { keepDims: true }), half);
}

/**
 * Blocks of verticals, or of slashes: as many as the fewest keys (or distances) of `sums` [B,Hq,K] that hold gamma of them fill, taken by their sums per block
 * [B,Hq,C]. A query-aware head takes the fewest allowed.
 */
function followed(context: SelectContext, sums: Tensor, blocks: Tensor, aware: Tensor, options: FlexPrefillOptions): Tensor {
  const { gamma, block, minBudget, maxBudget } = options;
  const { batch, heads, lengthQ, capacity } = stepSizes(context);
  const { lengths } = context;
  const { counts } = selectRow(reshape(sums, [batch, heads, 1, capacity]), { lengths, topP: gamma, blockQ: lengthQ });
  const number = (value: number, dtype: 'f32' | 'i32' = 'f32'): Tensor => constant(context, [value], [1], dtype);
  const least = number(Math.ceil(minBudget / block));
  const needed = cast(add(div(counts, number(block, 'i32')), number(1, 'i32')), 'f32');
  const wanted = binary(needed, least, 'max');
  const most = maxBudget > 0 ? binary(wanted, number(Math.max(1, Math.floor(maxBudget / block))), 'min') : wanted;
  const budget = sub(most, mul(aware, sub(most, least)));
  const scores = reshape(blocks, [batch, heads, 1, blocks.shape[2]]);
  return selectRow(scores, { lengths, budget, sinks: 1, blockQ: lengthQ, blockK: block }).bits;
}

/** Blocks of query-aware heads, [B,Hq,R,W]: the greatest of the whole map of pooled attention that hold gamma of it. */
function pooledChoice(context: SelectContext, keys: Tensor, aware: Tensor, { gamma, block }: FlexPrefillOptions): Tensor {
  const { q, lengths, kvMap, queryLayout, scale } = context;
  const blocks = { blockQ: block, blockK: block, lengths };
  const map = blockScores(poolBlocks(q, { block, layout: queryLayout, lengths }), keys, { ...blocks, kvMap, scale });
  const budget = mul(aware, constant(context, [2 ** 30], [1]));
  return selectRow(map, { ...blocks, scope: 'head', topP: gamma, budget }).bits;
}

/** {@link flexPrefill} in the catalogue. */
export const flexPrefillMethod = /* @__PURE__ */ defineMethod({
  id: 'flex-prefill',
  title: 'FlexPrefill: a pattern per head, budget by mass',
  paper: 'arXiv:2502.20766',
  phase: 'prefill',
  training: 'none',
  emits: 'blocks',
  options: { gamma: 0.9, tau: 0.1, minBudget: 512, maxBudget: 0, block: 128, denseBelow: 512 },
  policy: (options) => ({ kind: 'selector', selector: flexPrefill(options) }),
});
