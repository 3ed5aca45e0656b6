import { defineOp, ShapeError, type Tensor, groupsFor, uniform, type UniformWord } from '@filigree/core-tensor';
import shader from '@filigree/wgsl/sparse-attention/probe-sums.wgsl';
import { keyCapacity, type QueryLayout } from '../ops/check.js';
import { selectionCase } from './cases.js';
import { dot, expectPositive, withPlacement, selectionGeometry, selectionShape } from './geometry.js';
import { selectionShader } from './shader.js';

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
  attributes: /* @__PURE__ */ withPlacement({
    rows: { type: 'number' },
    scale: { type: 'number' },
    softcap: { type: 'number', default: 0 },
  }),
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
  webgpu: {
    shader: (_, io) =>
      selectionShader(
        {
          op: 'sparse-attention/probe-sums',
          source: shader,
          inputs: [
            ['q', 'f32'],
            ['k', 'half'],
            ['table', 'i32'],
            ['lengths', 'i32'],
            ['kvMap', 'i32'],
          ],
          outputs: [
            ['columns', 'f32'],
            ['diagonals', 'f32'],
            ['scratch', 'f32'],
          ],
        },
        io,
      ),
    scratch: ({ q }, { rows, queryLayout }) => {
      if (!q) return 0;
      const [heads, lengthQ] = queryLayout === 'bhld' ? [q.shape[1], q.shape[2]] : [q.shape[2], q.shape[1]];
      return 8 * q.shape[0] * heads * Math.max(1, Math.min(Number(rows), lengthQ));
    },
    plan({ q, k, table }, { rows, scale, softcap, queryLayout, lengthK }) {
      if (!q || !k) return [];
      const [heads, lengthQ] = queryLayout === 'bhld' ? [q.shape[1], q.shape[2]] : [q.shape[2], q.shape[1]];
      const capacity = keyCapacity(k, table);
      const probes = Math.min(Number(rows), lengthQ);
      const [columns, length] = [q.shape[0] * heads, Number(lengthK) < 0 ? capacity : Number(lengthK)];
      const uniforms = (count: number): UniformWord[] => [
        ...[count, heads, k.shape[1], lengthQ, q.shape[3], k.shape[2], table?.shape[1] ?? 1, capacity, length, probes].map(
          uniform.u32,
        ),
        uniform.u32(queryLayout === 'bhld' ? 1 : 0),
        ...[scale, softcap].map((value) => uniform.f32(Number(value))),
      ];
      if (columns * capacity === 0) return [];
      const [rowCount, sums] = [columns * probes, columns * capacity];
      return [
        ...(probes > 0 ? [{ entryPoint: 'statistics', workgroups: [rowCount] as const, uniforms: uniforms(rowCount) }] : []),
        ...['by_key', 'by_distance'].map((entryPoint) => ({
          entryPoint,
          workgroups: groupsFor(sums),
          uniforms: uniforms(sums),
        })),
      ];
    },
  },
  tolerance: { default: { absolute: 5e-5, relative: 5e-4 } },
  cases: (fc) =>
    selectionCase(fc, true).chain(({ inputs, queryLayout, lengthK, dim }) =>
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
