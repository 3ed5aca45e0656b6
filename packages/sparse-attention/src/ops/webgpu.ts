import { uniform, type HostTensor, type TensorMeta, type WebGpuKernel } from '@filigree/core-tensor';
import dense from '@filigree/wgsl/sparse-attention/attention.wgsl';
import readPlan from '@filigree/wgsl/sparse-attention/plan.wgsl';
import planned from '@filigree/wgsl/sparse-attention/planned-attention.wgsl';
import { slidingWindow } from '../methods/sliding-window.js';
import { packPlan } from '../pack-plan.js';
import { lowerMask } from '../lower-mask.js';
import { keyCapacity } from './check.js';
import { dispatches, halfCase, queryPieces, shaderOf, type QueryPiece } from './webgpu-attend.js';

export const attentionKernel: WebGpuKernel = {
  shader: ({ f16 }, io, attributes) =>
    shaderOf('sparse-attention/attention', dense, io, ['q', 'k', 'v', 'table', 'lengths', 'kvMap', 'bias'], f16, attributes),
  variants: ['f16'],
  selfTest: () => halfCase({ causal: true, window: 0, lengthK: 20 }),
  plan(io, attributes, limits) {
    const { causal, window, lengthK, queryLayout } = attributes;
    const capacity = io['k'] ? keyCapacity(io['k'], io['table']) : 0;
    const words = [causal ? 1 : 0, Number(window), Number(lengthK) < 0 ? capacity : Number(lengthK)].map(uniform.u32);
    const pieces = (q: TensorMeta, v: TensorMeta): QueryPiece[] => queryPieces(q, v, queryLayout, limits);
    return dispatches(io, pieces, attributes, limits, { extra: () => words });
  },
};

export const plannedAttentionKernel: WebGpuKernel = {
  shader: ({ f16 }, io, attributes) => {
    const source = `${planned}\n${readPlan}`;
    return shaderOf('sparse-attention/planned-attention', source, io, ['q', 'k', 'v', 'plan', 'table'], f16, attributes);
  },
  variants: ['f16'],
  selfTest: () => {
    const { inputs, attributes } = halfCase({});
    return { inputs: { ...inputs, plan: onePlan() }, attributes };
  },
  plan(io, attributes, limits) {
    const { queryLayout, pvSkip = 0, scoreM = 0 } = attributes;
    const pieces = (q: TensorMeta, v: TensorMeta): QueryPiece[] => queryPieces(q, v, queryLayout, limits);
    // Tiles count the entries of ranges and columns merged, which one invocation walks.
    return dispatches(io, pieces, attributes, limits, { inRows: pvSkip !== 0 || scoreM !== 0, extra: () => [] });
  },
};

/** Every key that one query at the end of 20 may see through a window of six. */
export function onePlan(): HostTensor {
  const mask = slidingWindow({ window: 6 })({ batch: 1, heads: 2, lenQ: [1], lenK: [20] });
  const data = packPlan(lowerMask(mask));
  return { shape: [data.length], dtype: 'i32', data };
}
