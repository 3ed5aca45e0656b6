import {
  defineOp,
  formatShape,
  OptionError,
  ShapeError,
  type HostTensor,
  type Tensor,
  zeroHostTensor,
} from '@filigree/core-tensor';
import { unpackPlan } from '../pack-plan.js';
import { visibleKeys } from '../visible-keys.js';
import { attentionOutputs, checkPlanTensor, expectPlan, keyCapacity, queryLayouts, type QueryLayout } from './check.js';
import { pagedCase } from './cases.js';
import { planOfCase } from './plan-cases.js';
import { geometryOf, scoresOf } from './reference.js';
import { attentionStatsKernel } from './webgpu-stats.js';

/** What becomes of the probabilities of a block. */
export const statsReductions = ['sum', 'max'] as const;

/** What blocks are of: keys, or distances from a query back to a key. */
export const statsAxes = ['keys', 'distances'] as const;

/**
 * Sum or largest of the exact probabilities e^(score − lse) over blocks of blockQ queries × blockK keys, of the cells that a plan shows.
 *
 * q, k, plan, table as in {@link plannedAttentionOp}; lse [B,Hq,Lq] of the attention that probabilities are those of (over this plan, or more)
 * y [B,Hq,R,C] f32, R = ceil(Lq / blockQ), C = ceil(keys that k holds / blockK); blocks without visible cells are 0. 2·cells·D operations.
 *
 * Along distances, block c has the cells with floor((qOffset + i − j) / blockK) = c instead: places in the cache, also where the plan has positions. Cells of keys
 * behind their query are in none.
 */
export const attentionStatsOp = /* @__PURE__ */ defineOp({
  name: 'sparse-attention/attention-stats',
  inputs: ['q', 'k', 'plan', 'lse', 'table?'],
  outputs: ['y'],
  attributes: {
    scale: { type: 'number' },
    softcap: { type: 'number', default: 0 },
    blockQ: { type: 'number' },
    blockK: { type: 'number' },
    reduce: { type: 'enum', values: statsReductions, default: 'sum' },
    queryLayout: { type: 'enum', values: queryLayouts, default: 'bhld' },
    along: { type: 'enum', values: statsAxes, default: 'keys' },
  },
  infer({ q, k, plan, lse, table }, { blockQ, blockK, queryLayout }) {
    checkPlanTensor('attention-stats', plan);
    const rows = attentionOutputs('attention-stats', { q, k, v: k, table }, queryLayout).lse;
    if (lse.dtype !== 'f32' || lse.shape.join() !== rows.shape.join())
      throw new ShapeError(
        `attention-stats: lse is ${lse.dtype} ${formatShape(lse.shape)}, it takes f32 ${formatShape(rows.shape)}`,
      );
    for (const [name, value] of Object.entries({ blockQ, blockK })) {
      if (!Number.isInteger(value) || value < 1)
        throw new OptionError(`attention-stats: ${name} is ${value}, it must be a positive integer`);
    }
    const [batch, heads, length] = rows.shape;
    const blocks = [Math.ceil(length / blockQ), Math.ceil(keyCapacity(k, table) / blockK)];
    return { y: { shape: [batch, heads, ...blocks], dtype: 'f32' } };
  },
  reference(io, { blockQ, blockK, reduce, queryLayout, along, ...options }) {
    const plan = unpackPlan(io.plan.data);
    const geometry = geometryOf(io, queryLayout, plan.kvMap);
    expectPlan('attention-stats', plan, geometry, keyCapacity(io.k, io.table));
    const [, heads, blocksQ, blocksK] = io.y.shape;
    const block = new Float64Array(blocksK);
    for (let row = 0; row < geometry.batch * heads * blocksQ; row++) {
      const [batch, head, first] = [
        Math.floor(row / (heads * blocksQ)),
        Math.floor(row / blocksQ) % heads,
        (row % blocksQ) * blockQ,
      ];
      block.fill(0);
      for (let query = first; query < Math.min(first + blockQ, geometry.lengthQ); query++) {
        const lse = io.lse.data[(batch * heads + head) * geometry.lengthQ + query];
        if (lse === -Infinity) continue;
        const { keys } = visibleKeys(plan, batch, head, query);
        const scores = scoresOf(io, geometry, { batch, head, query }, keys, { ...options, precision: 'f32' });
        for (const [index, key] of keys.entries()) {
          const at = Math.floor((along === 'keys' ? key : plan.qOffset[batch] + query - key) / blockK);
          if (at < 0) continue;
          const probability = Math.exp(scores[index] - lse);
          block[at] = reduce === 'sum' ? block[at] + probability : Math.max(block[at], probability);
        }
      }
      io.y.data.set(block, row * blocksK);
    }
  },
  native: 'sparse_attention_attention_stats',
  webgpu: attentionStatsKernel,
  tolerance: { y: { absolute: 1e-4, relative: 1e-3 } },
  cases: (fc) =>
    pagedCase(fc).chain((paged) =>
      fc
        .record({
          tensors: fc.record({ ...paged.inputs, plan: planOfCase(fc, paged) }),
          attributes: fc.record({
            scale: fc.constant(1 / Math.sqrt(paged.dim)),
            softcap: fc.constantFrom(0, 0, 5),
            blockQ: fc.constantFrom(1, 16, 64),
            blockK: fc.constantFrom(1, 5, 16, 64),
            reduce: fc.constantFrom(...statsReductions),
            queryLayout: fc.constant(paged.queryLayout),
            along: fc.constantFrom(...statsAxes),
          }),
        })
        .map(({ tensors: { q, k, plan, table }, attributes }) => {
          const { scale, softcap, queryLayout } = attributes;
          const lse = zeroHostTensor([paged.batch, paged.heads, paged.lengthQ], 'f32');
          fillLse({ q, k, plan, table, lse }, { scale, softcap, queryLayout });
          return { inputs: { q, k, plan, lse, table }, attributes };
        }),
    ),
});

/** Writes the log-sum-exp over the plan of every query that a case has. */
function fillLse(
  io: { q: HostTensor; k: HostTensor; plan: HostTensor; table: HostTensor | undefined; lse: HostTensor },
  options: { scale: number; softcap: number; queryLayout: QueryLayout },
): void {
  const plan = unpackPlan(io.plan.data);
  const [batches, heads, lengthQ] = io.lse.shape;
  const geometry = geometryOf(io, options.queryLayout, plan.kvMap);
  for (let row = 0; row < batches * heads * lengthQ; row++) {
    const [batch, head, query] = [Math.floor(row / (heads * lengthQ)), Math.floor(row / lengthQ) % heads, row % lengthQ];
    const { keys } = visibleKeys(plan, batch, head, query);
    const scores = scoresOf(io, geometry, { batch, head, query }, keys, { ...options, precision: 'f32' });
    const largest = scores.reduce((a, b) => Math.max(a, b), -Infinity);
    const sum = scores.reduce((total, score) => total + Math.exp(score - largest), 0);
    io.lse.data[row] = keys.length === 0 ? -Infinity : largest + Math.log(sum);
  }
}

export interface AttentionStatsOptions {
  readonly blockQ: number;
  readonly blockK: number;
  /** Default `sum`. */
  readonly reduce?: (typeof statsReductions)[number] | undefined;
  /** Default 1/√D. */
  readonly scale?: number | undefined;
  readonly softcap?: number | undefined;
  readonly table?: Tensor | undefined;
  readonly queryLayout?: QueryLayout | undefined;
  /** Default `keys`. */
  readonly along?: (typeof statsAxes)[number] | undefined;
}

/** Probabilities by blocks; see {@link attentionStatsOp}. */
export function attentionStats(q: Tensor, k: Tensor, plan: Tensor, lse: Tensor, options: AttentionStatsOptions): Tensor {
  const { table, scale = 1 / Math.sqrt(q.shape[3]), ...rest } = options;
  return attentionStatsOp({ q, k, plan, lse, table }, { scale, ...rest }).y;
}
