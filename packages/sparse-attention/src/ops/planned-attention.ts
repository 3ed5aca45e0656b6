import { DTypeError, defineOp, ExecutionError, fromArray, type HostTensor, type Tensor } from '@filigree/core-tensor';
import { slidingWindow } from '../methods/sliding-window.js';
import { streaming } from '../methods/streaming.js';
import { packPlan, unpackPlan, type PackedFields } from '../pack-plan.js';
import { lowerMask, type AttnPlan } from '../plan.js';
import { pagedCase } from './cases.js';
import {
  attentionOutputs,
  attentionTolerance,
  keyCapacity,
  precisions,
  queryLayouts,
  type Precision,
  type QueryLayout,
} from './check.js';
import { attendRow, geometryOf } from './reference.js';
import { plannedAttentionKernel } from './webgpu.js';

/**
 * Attention over the key ranges and columns of a plan; arguments and results as in {@link attentionOp}.
 *
 * plan i32: a packed {@link AttnPlan}, which carries lengths, causality and window. Time is proportional to the plan's visible keys.
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
  },
  infer({ q, k, v, plan, table }, { queryLayout }) {
    if (plan.dtype !== 'i32' || plan.shape.length !== 1)
      throw new DTypeError('planned-attention: plan must be i32 [words], made by packPlan');
    return attentionOutputs('planned-attention', { q, k, v, table }, queryLayout);
  },
  reference(io, { scale, softcap, queryLayout, precision }) {
    const geometry = geometryOf(io.q, io.k, io.v, io.table, queryLayout);
    const plan = unpackPlan(io.plan.data);
    const capacity = keyCapacity(io.k, io.table);
    for (let batch = 0; batch < geometry.batch; batch++) {
      if (plan.lenK[batch] > capacity)
        throw new ExecutionError(`planned-attention: the plan's ${plan.lenK[batch]} keys exceed ${capacity}`);
      for (let head = 0; head < geometry.heads; head++) {
        for (let query = 0; query < geometry.lengthQ; query++) {
          attendRow(io, geometry, { batch, head, query }, visibleKeys(plan, batch, head, query), { scale, softcap, precision });
        }
      }
    }
  },
  native: 'sparse_attention_planned_attention',
  webgpu: plannedAttentionKernel,
  tolerance: attentionTolerance,
  cases: (fc) =>
    pagedCase(fc).chain(({ batch, heads, lengthQ, lengthK, inputs, queryLayout, dim }) => {
      const pattern = fc.oneof(
        fc
          .record({ sinks: fc.nat(5), window: fc.integer({ min: 1, max: 40 }), lastRows: fc.constantFrom(0, 0, 3) })
          .map(streaming),
        fc.record({ window: fc.integer({ min: 1, max: 30 }) }).map(slidingWindow),
      );
      const plan = pattern.map((make): HostTensor => {
        const lengths = Array<number>(batch).fill(lengthK);
        const mask = make({ batch, heads, lenQ: Array<number>(batch).fill(lengthQ), lenK: lengths });
        const data = packPlan(lowerMask(mask));
        return { shape: [data.length], dtype: 'i32', data };
      });
      return fc.record({
        inputs: fc.record({ ...inputs, plan }),
        attributes: fc.record({
          scale: fc.constant(1 / Math.sqrt(dim)),
          softcap: fc.constantFrom(0, 0, 5),
          queryLayout: fc.constant(queryLayout),
          precision: fc.constantFrom(...precisions),
        }),
      });
    }),
});

/** Keys that one query of a plan sees, ascending. */
export function visibleKeys(plan: PackedFields, batch: number, head: number, query: number): number[] {
  const row = (batch * plan.maskHeads + plan.headMap[head]) * plan.rowsPerHead + Math.floor(query / plan.blockQ);
  const position = plan.qOffset[batch] + query;
  const passes = (key: number): boolean =>
    (!plan.causal || key <= position) && (plan.window === 0 || position - key < plan.window);
  const keys: number[] = [];
  for (let index = plan.rangeBeg[row]; index < plan.rangeBeg[row] + plan.rangeCnt[row]; index++) {
    const [start, end, flag] = plan.ranges.subarray(3 * index, 3 * index + 3);
    for (let key = start; key < end; key++) if (flag === 0 || passes(key)) keys.push(key);
  }
  for (let index = plan.colBeg[row]; index < plan.colBeg[row] + plan.colCnt[row]; index++)
    if (passes(plan.cols[index])) keys.push(plan.cols[index]);
  return keys.sort((a, b) => a - b);
}

/** Uploads a packed plan. */
export function planTensor(backend: Tensor['backend'], plan: AttnPlan): Tensor {
  const packed = packPlan(plan);
  return fromArray(backend, packed, [packed.length], 'i32');
}

/** Attention over a plan; see {@link plannedAttentionOp}. */
export function plannedAttention(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  plan: Tensor,
  options: {
    scale?: number;
    softcap?: number;
    table?: Tensor | undefined;
    queryLayout?: QueryLayout;
    precision?: Precision | undefined;
  } = {},
): { o: Tensor; lse: Tensor } {
  const { table, scale = 1 / Math.sqrt(q.shape[3]), ...rest } = options;
  return plannedAttentionOp({ q, k, v, plan, table }, { scale, ...rest });
}
