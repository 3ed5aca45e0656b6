import { defineOp, type Tensor } from '@filigree/core-tensor';
import { coarse, selectionCase } from './cases.js';
import {
  dot,
  expectPositive,
  hidden,
  withPlacement,
  selectionGeometry,
  selectionShape,
  type SelectionGeometry,
} from './geometry.js';
import { chunkDescentKernel } from './chunk-descent-webgpu.js';

/**
 * Tree search for the key blocks that a block of queries scores highest, bits [B,Hq,R,W] over blocks of blockK keys.
 *
 * q [B,Hq,Lq,D] or [B,Lq,Hq,D] f32   k [pages,Hk,P,D] f32 or f16   table i32 [B,pages per element]   lengths i32 [B,2]   kvMap i32 [Hq]
 * bits u32: R = ceil(Lq / blockQ), W = ceil(ceil(capacity / blockK) / 32), little end first
 *
 * A row of queries whose last position is p looks at the blocks 0 … n−1 that begin at or before p. `keep` nodes divide them evenly: node i is
 * [⌊i·n/keep⌋, ⌊(i+1)·n/keep⌋), empty ones are dropped. A node of more than one block is split behind its first ⌈size/2⌉ blocks; each part is scored by its
 * first block: the largest q·k of every strideQ-th query of the row and the block's keys up to p. The best `keep` parts stay, ties to the lower block;
 * this is repeated until all nodes are single blocks. With keep ≥ n every block is kept. A spike between representatives is missed.
 * O(keep·log(n/keep)) block scores a row; nothing of the size of the keys.
 *
 * Lee et al., "A Training-free Sub-quadratic Cost Transformer Model Serving Framework With Hierarchically Pruned Attention", arXiv:2406.09827.
 */
export const chunkDescentOp = /* @__PURE__ */ defineOp({
  name: 'sparse-attention/chunk-descent',
  inputs: ['q', 'k', 'table?', 'lengths?', 'kvMap?'],
  outputs: ['bits'],
  attributes: /* @__PURE__ */ withPlacement({
    keep: { type: 'number' },
    blockQ: { type: 'number', default: 64 },
    blockK: { type: 'number', default: 2 },
    strideQ: { type: 'number', default: 2 },
  }),
  dynamic: ['lengthK'],
  infer(inputs, attributes) {
    const { keep, blockQ, blockK, strideQ } = attributes;
    const { batch, heads, lengthQ, capacity } = selectionShape('chunk-descent', inputs, attributes);
    expectPositive('chunk-descent', { keep, blockQ, blockK, strideQ });
    const words = Math.ceil(Math.ceil(capacity / blockK) / 32);
    return { bits: { shape: [batch, heads, Math.ceil(lengthQ / blockQ), words], dtype: 'u32' } };
  },
  reference(io, attributes) {
    const { keep, blockQ, blockK, strideQ } = attributes;
    const geometry = selectionGeometry('chunk-descent', io, attributes);
    const [, , rows, words] = io.bits.shape;
    for (let batch = 0; batch < geometry.batch; batch++) {
      const { lenQ, lenK } = geometry.elements[batch];
      for (let head = 0; head < geometry.heads; head++) {
        for (let row = 0; row * blockQ < lenQ; row++) {
          const end = Math.min((row + 1) * blockQ, lenQ);
          const last = lenK - lenQ + end - 1;
          if (last < 0) continue;
          const queries: ArrayLike<number>[] = [];
          for (let query = row * blockQ; query < end; query += strideQ) queries.push(geometry.query(batch, head, query));
          const score = (block: number): number => blockScore(geometry, batch, head, queries, block * blockK, blockK, last);
          const at = ((batch * geometry.heads + head) * rows + row) * words;
          for (const block of descend(Math.floor(last / blockK) + 1, keep, score))
            io.bits.data[at + (block >> 5)] = (io.bits.data[at + (block >> 5)] | (1 << (block & 31))) >>> 0;
        }
      }
    }
  },
  native: 'sparse_attention_chunk_descent',
  webgpu: chunkDescentKernel,
  cases: (fc) =>
    selectionCase(fc, true).chain(({ inputs, queryLayout, lengthK }) =>
      fc.record({
        inputs: fc.record({ ...inputs, q: inputs.q.map(coarse), k: inputs.k.map(coarse) }),
        attributes: fc.record({
          keep: fc.constantFrom(1, 2, 3, 8, 200),
          blockQ: fc.constantFrom(1, 8, 16, 64),
          blockK: fc.constantFrom(1, 2, 3, 8),
          strideQ: fc.constantFrom(1, 2, 5),
          queryLayout: fc.constant(queryLayout),
          lengthK: fc.constantFrom(-1, lengthK),
        }),
      }),
    ),
});

/** The largest score of some queries over the keys of a block up to position `last`. */
function blockScore(
  geometry: SelectionGeometry,
  batch: number,
  head: number,
  queries: readonly ArrayLike<number>[],
  from: number,
  blockK: number,
  last: number,
): number {
  let best = hidden;
  for (let position = from; position < from + blockK && position <= last; position++) {
    const key = geometry.key(batch, geometry.kvHead(head), position);
    for (const query of queries) {
      const score = dot(query, key);
      if (score > best) best = score;
    }
  }
  return best;
}

/** The blocks that a descent from `keep` nodes over n blocks ends at, ascending. */
export function descend(blocks: number, keep: number, score: (block: number) => number): number[] {
  let nodes = Array.from({ length: keep }, (_, index) => ({
    start: Math.floor((index * blocks) / keep),
    end: Math.floor(((index + 1) * blocks) / keep),
  })).filter(({ start, end }) => end > start);
  while (nodes.some(({ start, end }) => end - start > 1)) {
    const parts = nodes.flatMap(({ start, end }) => {
      const middle = start + Math.ceil((end - start) / 2);
      return end - start > 1
        ? [
            { start, end: middle },
            { start: middle, end },
          ]
        : [{ start, end }];
    });
    const scores = parts.map(({ start }) => score(start));
    const best = [...parts.keys()].sort((a, b) => scores[b] - scores[a] || a - b).slice(0, keep);
    nodes = best.sort((a, b) => a - b).map((index) => parts[index]);
  }
  return nodes.map(({ start }) => start);
}

/** Key blocks that a tree search finds for each block of queries, bits u32 [B,Hq,R,W]; see {@link chunkDescentOp}. */
export function chunkDescent(
  q: Tensor,
  k: Tensor,
  options: {
    readonly keep: number;
    readonly blockQ?: number | undefined;
    readonly blockK?: number | undefined;
    readonly strideQ?: number | undefined;
    readonly table?: Tensor | undefined;
    readonly lengths?: Tensor | undefined;
    readonly kvMap?: Tensor | undefined;
    readonly queryLayout?: 'bhld' | 'blhd' | undefined;
    readonly lengthK?: number | undefined;
  },
): Tensor {
  const { table, lengths, kvMap, ...rest } = options;
  return chunkDescentOp({ q, k, table, lengths, kvMap }, rest).bits;
}
