import { checkIntegers, defineMethod } from '../method.js';
import { blockScores } from '../select/block-scores.js';
import { poolBlocks } from '../select/pool-blocks.js';
import { selectRow } from '../select/select-row.js';
import { isShort, lowered } from '../select/step.js';
import type { Selector } from '../selector.js';

export interface BlockTopKOptions {
  /** Queries and keys per block. */
  readonly block: number;
  /** Blocks of keys that a block of queries sees, its own included. */
  readonly topK: number;
  /** Up to so many keys attention is dense. */
  readonly denseBelow: number;
}

/**
 * The block-sparse heads of MInference: the blocks of keys whose mean has the greatest product with the mean of a block of queries.
 *
 * Means and products are O(L·D + (L/block)²·D) a head. Jiang et al., "MInference 1.0", arXiv:2407.02490.
 */
export function blockTopK({ block, topK, denseBelow }: BlockTopKOptions): Selector {
  checkIntegers('block-top-k', { block, topK }, 1);
  checkIntegers('block-top-k', { denseBelow });
  return {
    select(context) {
      if (isShort(context, denseBelow)) return 'dense';
      const { q, k, table, lengths, kvMap, queryLayout } = context;
      const blocks = { blockQ: block, blockK: block };
      const queries = poolBlocks(q, { block, layout: queryLayout, lengths });
      const keys = poolBlocks(k, { block, layout: 'pages', table, lengths });
      const scores = blockScores(queries, keys, { ...blocks, lengths, kvMap, softmax: false });
      const { bits } = selectRow(scores, { ...blocks, lengths, topK, local: 1 });
      return { parts: [lowered(context, { blocks: bits }, blocks)] };
    },
  };
}

/** {@link blockTopK} in the catalogue. */
export const blockTopKMethod = /* @__PURE__ */ defineMethod({
  id: 'block-top-k',
  title: 'MInference, block-sparse heads',
  paper: 'arXiv:2407.02490',
  phase: 'prefill',
  training: 'none',
  emits: 'blocks',
  options: { block: 64, topK: 100, denseBelow: 0 },
  policy: (options) => ({ kind: 'selector', selector: blockTopK(options) }),
});
