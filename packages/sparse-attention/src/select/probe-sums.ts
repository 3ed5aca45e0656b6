import { defineOp, ShapeError, type Tensor } from '@filigree/core-tensor';
import type { QueryLayout } from '../ops/check.js';
import { selectionCase } from './cases.js';
import { dot, expectPositive, placement, selectionGeometry, selectionShape } from './geometry.js';

/**
 * What the last queries attend to, by key and by distance: sums of the exact causal softmax of the last `rows` queries.
 *
 * q f32 [B,Hq,Lq,D] or, with queryLayout `blhd`, [B,Lq,Hq,D]   k f32 or f16 [pages,Hk,P,D]   table? i32 [B, pages per element]   lengths? i32 [B,2]
 * kvMap? i32 [Hq]   columns f32 [B,Hq,K]   diagonals f32 [B,Hq,K], K the keys that k can hold
 *
 * columns[j] = Σ p(i, j) and diagonals[o] = Σ p(i, position(i) − o) over the last min(rows, lenQ) queries; 0 where nothing falls. Nothing of size rows × K
 * is kept: two passes over the keys, 4·rows·K·D operations a head.
 */
export const probeSumsOp = /* @__PURE__ */ defineOp({
  name: 'sparse-attention/probe-sums',
  inputs: ['q', 'k', 'table?', 'lengths?', 'kvMap?'],
  outputs: ['columns', 'diagonals'],
  attributes: {
    rows: { type: 'number' },
    scale: { type: 'number' },
    softcap: { type: 'number', default: 0 },
    ...placement,
  },
  dynamic: ['lengthK'],
  infer(inputs, { rows, queryLayout, lengthK }) {
    const { batch, heads, capacity, dim } = selectionShape('probe-sums', inputs, { queryLayout, lengthK });
    expectPositive('probe-sums', { rows });
    if (dim > 1024) throw new ShapeError(`probe-sums: head dims of ${dim} are not supported, 1024 are`);
    const sums = { shape: [batch, heads, capacity], dtype: 'f32' } as const;
    return { columns: sums, diagonals: sums };
  },
  reference({ columns, diagonals, ...io }, { rows, scale, softcap, ...where }) {
    const geometry = selectionGeometry('probe-sums', io, where);
    const { heads, capacity } = geometry;
    for (const [batch, { lenQ, lenK }] of geometry.elements.entries()) {
      for (let head = 0; head < heads; head++) {
        const sums = (batch * heads + head) * capacity;
        for (let query = Math.max(0, lenQ - rows); query < lenQ; query++) {
          const position = lenK - lenQ + query;
          const scores = Array.from({ length: Math.max(0, position + 1) }, (_, key) => {
            const score = scale * dot(geometry.query(batch, head, query), geometry.key(batch, geometry.kvHead(head), key));
            return softcap > 0 ? softcap * Math.tanh(score / softcap) : score;
          });
          const largest = scores.reduce((a, b) => Math.max(a, b), -Infinity);
          const sum = scores.reduce((total, score) => total + Math.exp(score - largest), 0);
          for (const [key, score] of scores.entries()) {
            const probability = Math.exp(score - largest) / sum;
            columns.data[sums + key] += probability;
            diagonals.data[sums + position - key] += probability;
          }
        }
      }
    }
  },
  native: 'sparse_attention_probe_sums',
  tolerance: { default: { absolute: 5e-5, relative: 5e-4 } },
  cases: (fc) =>
    selectionCase(fc).chain(({ inputs, queryLayout, lengthK, dim }) =>
      fc.record({
        inputs: fc.record(inputs),
        attributes: fc.record({
          rows: fc.constantFrom(1, 3, 16, 64),
          scale: fc.constant(1 / Math.sqrt(dim)),
          softcap: fc.constantFrom(0, 0, 5),
          lengthK: fc.constant(lengthK),
          queryLayout: fc.constant(queryLayout),
        }),
      }),
    ),
});

export interface ProbeSumsOptions {
  /** Queries at the end whose attention is looked at. */
  readonly rows: number;
  /** Default 1/√D. */
  readonly scale?: number | undefined;
  readonly softcap?: number | undefined;
  readonly table?: Tensor | undefined;
  readonly lengths?: Tensor | undefined;
  readonly kvMap?: Tensor | undefined;
  readonly lengthK?: number | undefined;
  readonly queryLayout?: QueryLayout | undefined;
}

/** Attention of the last queries, summed by key and by distance; see {@link probeSumsOp}. */
export function probeSums(q: Tensor, k: Tensor, options: ProbeSumsOptions): { columns: Tensor; diagonals: Tensor } {
  const { table, lengths, kvMap, scale = 1 / Math.sqrt(q.shape[3]), ...attributes } = options;
  return probeSumsOp({ q, k, table, lengths, kvMap }, { scale, ...attributes });
}
