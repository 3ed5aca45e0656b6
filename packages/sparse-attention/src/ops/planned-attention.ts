import { defineOp, fromArray, scope, type Tensor } from '@filigree/core-tensor';
import { packPlan, unpackPlan, type PackedFields } from '../pack-plan.js';
import { visibleKeys } from '../visible-keys.js';
import { pagedCase } from './cases.js';
import {
  attentionOutputs,
  attentionTolerance,
  checkPlanTensor,
  expectPlan,
  keyCapacity,
  precisions,
  queryLayouts,
} from './check.js';
import { attributesOf, finishAttention, scaledQueries, type ExecutorCall } from './executor-call.js';
import { checkScoreOptions } from './kept-keys.js';
import { planOfCase } from './plan-cases.js';
import { tiledAttributes, tiledCase } from './tiled-cases.js';
import { attendRow, geometryOf } from './reference.js';
import { plannedAttentionKernel } from './webgpu.js';

/**
 * Attention over the key ranges and columns of a plan; arguments and results as in {@link attentionOp}.
 *
 * plan i32: a packed {@link AttnPlan}, which carries lengths, causality, window, positions, segments and the map of heads. Queries beyond an
 * element's lenQ give o = 0, lse = −∞. Tiles of pvSkip are 64 entries each of a row's list of keys (ranges and columns merged, ascending), with
 * scoreM the entries of one floor(j / 64). Time is proportional to the plan's visible keys.
 */
export const plannedAttentionOp = /* @__PURE__ */ defineOp({
  name: 'sparse-attention/planned-attention',
  inputs: ['q', 'k', 'v', 'plan', 'table?'],
  outputs: ['o', 'lse'],
  attributes: {
    scale: { type: 'number' },
    softcap: { type: 'number', default: 0 },
    queryLayout: { type: 'enum', values: queryLayouts, default: 'bhld' },
    precision: { type: 'enum', values: precisions, default: 'f32' },
    pvSkip: { type: 'number', default: 0 },
    scoreN: { type: 'number', default: 0 },
    scoreM: { type: 'number', default: 0 },
    scoreSinks: { type: 'number', default: 0 },
    scoreRecent: { type: 'number', default: 0 },
  },
  infer({ q, k, v, plan, table }, { queryLayout, ...options }) {
    checkPlanTensor('planned-attention', plan);
    checkScoreOptions('planned-attention', options);
    return attentionOutputs('planned-attention', { q, k, v, table }, queryLayout);
  },
  reference(io, { queryLayout, ...options }) {
    const plan = unpackPlan(io.plan.data);
    const geometry = geometryOf(io, queryLayout, plan.kvMap);
    expectPlan('planned-attention', plan, geometry, keyCapacity(io.k, io.table));
    for (let batch = 0; batch < geometry.batch; batch++) {
      for (let head = 0; head < geometry.heads; head++) {
        for (let query = 0; query < geometry.lengthQ; query++) {
          const visible = visibleKeys(plan, batch, head, query, options.scoreM > 0);
          attendRow(io, geometry, { batch, head, query }, visible, options);
        }
      }
    }
  },
  native: 'sparse_attention_planned_attention',
  webgpu: plannedAttentionKernel,
  tolerance: attentionTolerance,
  cases: (fc) => {
    const usual = pagedCase(fc).chain((paged) =>
      fc.record({
        inputs: fc.record({ ...paged.inputs, plan: planOfCase(fc, paged) }),
        attributes: fc.record({
          scale: fc.constant(1 / Math.sqrt(paged.dim)),
          softcap: fc.constantFrom(0, 0, 5),
          queryLayout: fc.constant(paged.queryLayout),
          precision: fc.constantFrom(...precisions),
        }),
      }),
    );
    const tiled = tiledCase(fc).chain(({ inputs, queryLayout, ...sizes }) =>
      fc.record({ plan: planOfCase(fc, sizes), options: tiledAttributes(fc) }).map(({ plan, options }) => ({
        inputs: { ...inputs, plan },
        attributes: { queryLayout, ...options },
      })),
    );
    return fc.oneof({ arbitrary: usual, weight: 2 }, tiled);
  },
});

/** Uploads a packed plan. */
export function planTensor(backend: Tensor['backend'], plan: PackedFields): Tensor {
  const packed = packPlan(plan);
  return fromArray(backend, packed, [packed.length], 'i32');
}

/** Attention over a plan; see {@link plannedAttentionOp} and {@link ExecutorCall}. */
export function plannedAttention(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  plan: Tensor,
  options: ExecutorCall = {},
): { o: Tensor; lse: Tensor } {
  return scope(() => {
    const inputs = { q: scaledQueries(q, options), k, v, plan, table: options.table };
    return finishAttention(plannedAttentionOp(inputs, attributesOf(q, options)), options);
  });
}
