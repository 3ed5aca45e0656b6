import {
  composedShader,
  groupsFor,
  itemsPerBinding,
  sizeOf,
  uniform,
  type BindingRanges,
  type OpCase,
  type TensorMeta,
  type WebGpuKernel,
  type WebGpuLimits,
} from '@filigree/core-tensor';
import source from '@filigree/wgsl/sparse-attention/attention-stats.wgsl';
import readPlan from '@filigree/wgsl/sparse-attention/plan.wgsl';
import { keyCapacity } from './check.js';
import { bindingTypes, halfCase, keyWindows, readers } from './webgpu-attend.js';
import { bindings, type Io } from './webgpu-bindings.js';
import { onePlan } from './webgpu.js';

function compose(io: Io, nativeHalf: boolean): string {
  const declared = bindings(io, ['q', 'k', 'plan', 'lse', 'table'], ['y'], bindingTypes(io, nativeHalf));
  return [io['k']?.dtype === 'f16' && nativeHalf ? 'enable f16;' : '', source, readPlan]
    .join('\n')
    .replace('/* bindings */', [declared.text, readers(io, ['k'], nativeHalf)].join('\n'))
    .replaceAll('OFFSET_WORDS', String(declared.offsetWords));
}

/** Some queries of one head: where their rows of q, lse and y start and lie. */
interface StatsPiece {
  readonly batch: number;
  readonly head: number;
  readonly first: number;
  readonly count: number;
  readonly qFirst: number;
  readonly qStride: number;
  readonly ranges: BindingRanges;
}

/** Queries of one head at a time, as many as bindings hold the rows of; blocks that a cut goes through are gone on with. */
function statsPieces(q: TensorMeta, y: TensorMeta, layout: unknown, blockQ: number, limits: WebGpuLimits): StatsPiece[] {
  const headsFirst = layout === 'bhld';
  const [batches, heads, blocksQ, blocksK] = y.shape;
  const [length, dim] = [headsFirst ? q.shape[2] : q.shape[1], q.shape[3]];
  const stride = headsFirst ? dim : heads * dim;
  const rowsOfY = itemsPerBinding(limits, 4 * blocksK);
  const most = Math.min(itemsPerBinding(limits, 4 * stride), Math.max(1, rowsOfY - 1) * blockQ);
  return Array.from({ length: batches * heads * Math.ceil(length / most) }, (_, piece) => {
    const row = Math.floor(piece / Math.ceil(length / most));
    const first = (piece % Math.ceil(length / most)) * most;
    const [batch, head] = [Math.floor(row / heads), row % heads];
    const count = Math.min(most, length - first);
    const queries = ((headsFirst ? row : batch) * length + first) * stride;
    const firstBlock = Math.floor(first / blockQ);
    const blocks = Math.floor((first + count - 1) / blockQ) - firstBlock + 1;
    const range = (from: number, size: number): { byteOffset: number; byteLength: number } => ({
      byteOffset: 4 * from,
      byteLength: 4 * size,
    });
    return {
      ...{ batch, head, first, count },
      qFirst: headsFirst ? 0 : head * dim,
      qStride: stride,
      ranges: {
        q: range(queries, count * stride),
        lse: range(row * length + first, count),
        y: range((row * blocksQ + firstBlock) * blocksK, blocks * blocksK),
      },
    };
  });
}

export const attentionStatsKernel: WebGpuKernel = {
  shader: ({ f16 }, io) =>
    composedShader(`sparse-attention/attention-stats ${io['table'] !== undefined} ${io['k']?.dtype} ${f16}`, () =>
      compose(io, f16),
    ),
  variants: ['f16'],
  selfTest: (): OpCase => {
    const { inputs, attributes } = halfCase({ blockQ: 4, blockK: 8, reduce: 'sum', along: 'keys' });
    const lse = { shape: [1, 2, 1], dtype: 'f32' as const, data: Float32Array.of(4, 5) };
    return { inputs: { q: inputs['q'], k: inputs['k'], plan: onePlan(), lse }, attributes };
  },
  plan({ q, k, y, table }, { scale, softcap, blockQ, blockK, reduce, along, queryLayout }, limits) {
    if (!q || !k || !y || sizeOf(y.shape) === 0) return [];
    return statsPieces(q, y, queryLayout, Number(blockQ), limits).flatMap((piece) =>
      keyWindows(k, undefined, limits).map((window) => ({
        workgroups: groupsFor(piece.ranges['y'].byteLength / 4),
        uniforms: [
          ...[
            ...[piece.batch, piece.head, piece.first, piece.count, piece.qFirst, piece.qStride, y.shape[1], q.shape[3]],
            ...[k.shape[1], k.shape[2], table?.shape[1] ?? 1, window.start, window.count, keyCapacity(k, table)],
            ...[window.start > 0 ? 1 : 0, Number(blockQ), Number(blockK), y.shape[3], reduce === 'max' ? 1 : 0],
            along === 'distances' ? 1 : 0,
          ].map(uniform.u32),
          ...[scale, softcap].map(Number).map(uniform.f32),
        ],
        ranges: { ...piece.ranges, ...window.ranges },
      })),
    );
  },
};
