import { binary, mul, OptionError, reduce, reshape, type Tensor } from '@filigree/core-tensor';
import { checkIntegers, defineMethod } from '../method.js';
import { blockScores } from '../select/block-scores.js';
import { poolBlocks } from '../select/pool-blocks.js';
import { selectRow } from '../select/select-row.js';
import { constant, isShort, lowered, stepSizes } from '../select/step.js';
import type { SelectContext, Selector } from '../selector.js';

export interface SpargeOptions {
  /** Share of the estimated attention of a block of queries that its blocks of keys hold; where `topK` is 0. */
  readonly cdf: number;
  /** Share of all blocks of keys, those after the query included, that a block of queries sees; 0: `cdf` decides. */
  readonly topK: number;
  /** Least mean cosine of the rows of a block for which their mean speaks. */
  readonly simThreshold: number;
  /** Tiles whose scores all lie so far below a query's maximum are left out (natural logarithm); 0: none. */
  readonly pvSkip: number;
  readonly blockQ: number;
  readonly blockK: number;
  /** Whether the first block of keys is always seen. */
  readonly sink: boolean;
  /** Up to so many keys attention is dense. */
  readonly denseBelow: number;
}

/**
 * SpargeAttn: blocks of keys by the softmax of products of means, where means can be trusted. Keys are taken relative to their mean, which no softmax
 * sees. A block whose rows do not resemble each other (mean cosine below `simThreshold`) is no block that its mean can stand for: keys of such a block are
 * always seen, queries of such a block see everything. The executor then leaves out tiles by `pvSkip`.
 *
 * O(L·D + (L/blockQ)·(L/blockK)·D) operations a head. The recommended settings of its authors are topK 0.5 with simThreshold −0.1; as the share counts
 * all blocks, half of them is three quarters of what is causal.
 * Zhang et al., "SpargeAttn: Accurate Sparse Attention Accelerating Any Model Inference", arXiv:2502.18137.
 */
export function sparge(options: SpargeOptions): Selector {
  const { cdf, topK, simThreshold, pvSkip, blockQ, blockK, sink, denseBelow } = options;
  checkIntegers('sparge', { blockQ, blockK }, 1);
  checkIntegers('sparge', { denseBelow });
  for (const [name, value] of Object.entries({ cdf, topK }))
    if (!(value >= 0 && value <= 1)) throw new OptionError(`sparge: ${name} is ${value}, it must be in 0 … 1`);
  if (!(pvSkip >= 0)) throw new OptionError(`sparge: pvSkip is ${pvSkip}, it must not be negative`);
  const chosen = topK > 0 ? { topShare: topK } : { topP: cdf };
  return {
    select(context) {
      if (isShort(context, denseBelow)) return 'dense';
      const { batch, kvHeads, lengthQ, dim, capacity } = stepSizes(context);
      const { q, k, table, lengths, kvMap, queryLayout, scale } = context;
      const ofQueries = { block: blockQ, layout: queryLayout, lengths };
      const ofKeys = { block: blockK, layout: 'pages', table, lengths } as const;
      const center = reshape(poolBlocks(k, { ...ofKeys, block: Math.max(1, capacity) }), [batch, kvHeads, dim]);
      const unlikeQ = unlike(context, poolBlocks(q, { ...ofQueries, mode: 'direction' }), simThreshold);
      const unlikeK = unlike(context, poolBlocks(k, { ...ofKeys, center, mode: 'direction' }), simThreshold);
      const keep = binary(unlikeK, constant(context, [0], [1]), 'eq');
      const blocks = { blockQ, blockK, lengths };
      const scores = blockScores(poolBlocks(q, ofQueries), poolBlocks(k, { ...ofKeys, center }), {
        ...blocks,
        scale,
        keep,
        kvMap,
      });
      const everything = mul(unlikeQ, constant(context, [2 ** 30], [1]));
      const best = selectRow(scores, { ...blocks, ...chosen, least: everything, min: 1, sinks: sink ? 1 : 0 });
      const always = selectRow(reshape(unlikeK, [batch, kvHeads, 1, unlikeK.shape[2]]), {
        ...blocks,
        blockQ: lengthQ,
        threshold: 0.5,
      });
      const part = lowered(context, { blocks: best.bits, moreBlocks: always.bits }, { blockQ, blockK });
      return { parts: [part], options: { pvSkip } };
    },
  };
}

/** 1 for every window whose mean pairwise cosine is below the threshold: the square norm of the mean of directions [B,H,N,D] → [B,H,N]. */
function unlike(context: SelectContext, directions: Tensor, threshold: number): Tensor {
  return binary(reduce(mul(directions, directions), 'sum'), constant(context, [threshold], [1]), 'lt');
}

/** {@link sparge} in the catalogue. */
export const spargeMethod = /* @__PURE__ */ defineMethod({
  id: 'sparge',
  title: 'SpargeAttn: pooled blocks guarded by self-similarity',
  paper: 'arXiv:2502.18137',
  phase: 'prefill',
  training: 'none',
  emits: 'blocks',
  options: { cdf: 0.98, topK: 0, simThreshold: 0.6, pvSkip: 34.7, blockQ: 128, blockK: 64, sink: false, denseBelow: 128 },
  policy: (options) => ({ kind: 'selector', selector: sparge(options) }),
});
