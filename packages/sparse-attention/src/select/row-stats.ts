import {
  defineOp,
  DTypeError,
  ExecutionError,
  formatShape,
  groupsFor,
  ShapeError,
  sizeOf,
  uniform,
  type HostTensor,
  type Tensor,
} from '@filigree/core-tensor';
import { slidingWindow } from '../methods/sliding-window.js';
import { streaming } from '../methods/streaming.js';
import { keyCapacity, queryLayouts } from '../ops/check.js';

import { packPlan, unpackPlan } from '../pack-plan.js';
import { lowerMask } from '../lower-mask.js';
import { visibleKeys } from '../visible-keys.js';
import { selectionCase } from './cases.js';
import { dot, hidden, selectionGeometry, selectionShape } from './geometry.js';
import planRows from '@filigree/wgsl/sparse-attention/plan-rows.wgsl';
import shader from '@filigree/wgsl/sparse-attention/row-stats.wgsl';
import { commonWords, pageWindows, rowPieces, selectionShader } from './webgpu.js';

/**
 * Largest score and sum of e^(score − largest) of every query over the keys of a plan: m and l of its softmax, in natural logarithm.
 *
 * q [B,Hq,Lq,D] or [B,Lq,Hq,D] f32   k [pages,Hk,P,D] f32 or f16   plan i32 [words]   table i32 [B,pages per element]
 * largest, sum [B,Hq,Lq] f32: −1e30 and 0 for a query without keys
 *
 * softcap c > 0: scores become c·tanh(score / c). 2·D operations a visible cell, half of what planned-attention does.
 */
export const rowStatsOp = /* @__PURE__ */ defineOp({
  name: 'sparse-attention/row-stats',
  inputs: ['q', 'k', 'plan', 'table?'],
  outputs: ['largest', 'sum'],
  attributes: {
    scale: { type: 'number' },
    softcap: { type: 'number', default: 0 },
    queryLayout: { type: 'enum', values: queryLayouts, default: 'bhld' },
  },
  infer({ q, k, plan, table }, { queryLayout }) {
    if (plan.dtype !== 'i32' || plan.shape.length !== 1)
      throw new DTypeError(
        `row-stats: plan is ${plan.dtype} ${formatShape(plan.shape)}, it takes i32 [words], made by packPlan`,
      );
    if (k.shape.length === 4 && q.shape.length === 4 && k.shape[1] === 0) throw new ShapeError('row-stats: k has no heads');
    const { batch, heads, lengthQ } = selectionShape('row-stats', { q, k, table }, { queryLayout, lengthK: -1 });
    const meta = { shape: [batch, heads, lengthQ], dtype: 'f32' } as const;
    return { largest: meta, sum: meta };
  },
  reference(io, { scale, softcap, queryLayout }) {
    const plan = unpackPlan(io.plan.data);
    const geometry = selectionGeometry('row-stats', { q: io.q, k: io.k, table: io.table }, { queryLayout, lengthK: -1 });
    const { heads, lengthQ } = geometry;
    for (let batch = 0; batch < geometry.batch; batch++) {
      const capacity = keyCapacity(io.k, io.table);
      if (plan.lenK[batch] > capacity)
        throw new ExecutionError(`row-stats: the plan's ${plan.lenK[batch]} keys exceed ${capacity}`);
      for (let head = 0; head < heads; head++) {
        const kvHead = plan.kvMap?.[head] ?? geometry.kvHead(head);
        for (let query = 0; query < lengthQ; query++) {
          const scores = visibleKeys(plan, batch, head, query).keys.map((position) => {
            const score = scale * dot(geometry.query(batch, head, query), geometry.key(batch, kvHead, position));
            return softcap > 0 ? softcap * Math.tanh(score / softcap) : score;
          });
          const largest = scores.reduce((a, b) => (b > a ? b : a), hidden);
          const at = (batch * heads + head) * lengthQ + query;
          io.largest.data[at] = largest;
          io.sum.data[at] = scores.reduce((sum, score) => sum + Math.exp(score - largest), 0);
        }
      }
    }
  },
  native: 'sparse_attention_row_stats',
  webgpu: {
    shader: (_, io) =>
      selectionShader(
        {
          op: 'sparse-attention/row-stats',
          source: `${shader}\n${planRows}`,
          inputs: ['q', 'k', 'plan', 'table'],
          outputs: { largest: 'f32', sum: 'f32' },
          pages: ['k'],
          extra: { rows: 'u32', first_row: 'u32', scale: 'f32', softcap: 'f32' },
        },
        io,
      ),
    plan(io, { scale, softcap, queryLayout }, limits) {
      const { q, k, table, largest } = io;
      if (!q || !k || !largest || sizeOf(largest.shape) === 0) return [];
      return rowPieces(q, queryLayout, { largest: 4, sum: 4 }, limits).flatMap((piece) =>
        pageWindows(io, ['k'], limits).map((window) => ({
          workgroups: groupsFor(piece.count),
          uniforms: [
            ...commonWords(
              q,
              k,
              table,
              { queryLayout, lengthK: -1 },
              { firstQ: piece.firstQ, firstKeyRow: window.start, keyRows: window.count },
            ),
            ...[piece.count, piece.start].map(uniform.u32),
            ...[Number(scale), Number(softcap)].map(uniform.f32),
          ],
          ranges: { ...piece.ranges, ...window.ranges },
        })),
      );
    },
  },
  tolerance: { largest: { absolute: 2e-4, relative: 1e-5 }, sum: { absolute: 1e-4, relative: 1e-3 } },
  cases: (fc) =>
    selectionCase(fc).chain(({ batch, heads, lengthQ, lengthK, inputs: { q, k, table }, queryLayout, dim }) => {
      const pattern = fc.oneof(
        fc
          .record({ sinks: fc.nat(5), window: fc.integer({ min: 1, max: 40 }), lastRows: fc.constantFrom(0, 0, 3) })
          .map(streaming),
        fc.record({ window: fc.integer({ min: 1, max: 30 }) }).map(slidingWindow),
      );
      const plan = pattern.map((make): HostTensor => {
        const fill = (length: number): number[] => Array<number>(batch).fill(length);
        const data = packPlan(lowerMask(make({ batch, heads, lenQ: fill(lengthQ), lenK: fill(lengthK) })));
        return { shape: [data.length], dtype: 'i32', data };
      });
      return fc.record({
        inputs: fc.record({ q, k, plan, table }),
        attributes: fc.record({
          scale: fc.constant(1 / Math.sqrt(dim)),
          softcap: fc.constantFrom(0, 0, 5),
          queryLayout: fc.constant(queryLayout),
        }),
      });
    }),
});

/** Largest score and sum of the softmax of every query over a plan; see {@link rowStatsOp}. */
export function rowStats(
  q: Tensor,
  k: Tensor,
  plan: Tensor,
  options: {
    readonly table?: Tensor | undefined;
    readonly scale?: number | undefined;
    readonly softcap?: number | undefined;
    readonly queryLayout?: 'bhld' | 'blhd' | undefined;
  } = {},
): { largest: Tensor; sum: Tensor } {
  const { table, scale = 1 / Math.sqrt(q.shape[3]), ...rest } = options;
  return rowStatsOp({ q, k, plan, table }, { scale, ...rest });
}
