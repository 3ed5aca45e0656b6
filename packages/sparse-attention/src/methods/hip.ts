import { OptionError } from '@filigree/core-tensor';
import { checkIntegers, defineMethod } from '../method.js';
import { chunkDescent } from '../select/chunk-descent.js';
import { loweredWithRanges, sinksAndWindow } from '../select/lowered-with-ranges.js';
import { isShort, placed } from '../select/step.js';
import type { Selector } from '../selector.js';

export interface HipOptions {
  /** Keys that a block of queries finds. */
  readonly maskK: number;
  /** Queries that search together. */
  readonly blockQ: number;
  /** Keys per block, a leaf of the tree. */
  readonly blockK: number;
  /** One of so many queries of the block scores the keys. */
  readonly strideQ: number;
  /** Newest keys, seen by all. */
  readonly window: number;
  /** First keys, seen by all. */
  readonly sink: number;
  /** Up to so many keys attention is dense. */
  readonly denseBelow: number;
}

/**
 * HiP: a tree search for the keys of each block of queries. maskK / blockK nodes divide the prefix evenly; every node is split in two, each half is scored by its
 * first block, and the best nodes go on until they are single blocks. Beside what it finds, a query sees sinks and a window.
 *
 * O(L log L) products in all. It relies on scores that change slowly along the keys: a single spike between representatives is missed.
 * Lee et al., "A Training-free Sub-quadratic Cost Transformer Model Serving Framework With Hierarchically Pruned Attention", arXiv:2406.09827.
 *
 * @throws OptionError when an option is out of its range, or maskK is no multiple of blockK.
 */
export function hip({ maskK, blockQ, blockK, strideQ, window, sink, denseBelow }: HipOptions): Selector {
  checkIntegers('hip', { maskK, blockQ, blockK, strideQ, window }, 1);
  checkIntegers('hip', { sink, denseBelow });
  if (maskK % blockK !== 0) throw new OptionError(`hip: maskK is ${maskK}, it must be a multiple of blockK, ${blockK}`);
  return {
    select(context) {
      if (isShort(context, denseBelow)) return 'dense';
      const search = { keep: maskK / blockK, blockQ, blockK, strideQ };
      const blocks = chunkDescent(context.q, context.k, { ...placed(context), ...search });
      const part = loweredWithRanges(context, sinksAndWindow(sink, window), { blocks }, { blockQ, blockK });
      return { parts: [part] };
    },
  };
}

/** {@link hip} in the catalogue. */
export const hipMethod = /* @__PURE__ */ defineMethod({
  id: 'hip',
  title: 'HiP: tree search',
  paper: 'arXiv:2406.09827',
  phase: 'both',
  training: 'none',
  emits: 'blocks, ranges',
  options: { maskK: 512, blockQ: 64, blockK: 2, strideQ: 2, window: 256, sink: 16, denseBelow: 0 },
  policy: (options) => ({ kind: 'selector', selector: hip(options) }),
});
