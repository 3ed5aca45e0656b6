import {
  cut,
  ExecutionError,
  uniform,
  type OpCase,
  type TensorMeta,
  type WebGpuKernel,
  type WebGpuLimits,
} from '@filigree/core-tensor';
import source from '@filigree/wgsl/sparse-attention/gather-attention.wgsl';
import { dispatches, halfCase, queryPieces, shaderOf, type QueryPiece } from './webgpu-attend.js';
import type { Io } from './webgpu-bindings.js';

interface ListPiece extends QueryPiece {
  /** First list of keys that is bound. */
  readonly firstList: number;
}

/**
 * Pieces of the query rows, and the lists that they read. Where a binding does not hold all lists, a piece has queries of one head, or, in layout
 * `blhd`, of all heads that share their lists.
 */
function listPieces(io: Io, q: TensorMeta, v: TensorMeta, layout: unknown, limits: WebGpuLimits): ListPiece[] {
  const { indices, k, kvMap } = io;
  if (!indices || !k) return [];
  const [batches, maskHeads, length, slots] = indices.shape;
  const bytes = { q: 4 * q.shape[3], o: 4 * v.shape[3], indices: 4 * slots };
  if (bytes.indices * batches * maskHeads * length <= limits.maxStorageBufferBindingSize)
    return queryPieces(q, v, layout, limits).map((piece) => ({ ...piece, firstList: 0 }));
  const headsFirst = layout === 'bhld';
  const heads = headsFirst ? q.shape[1] : q.shape[2];
  if ((!headsFirst && maskHeads > 1) || (kvMap && maskHeads !== 1 && maskHeads !== heads)) {
    const size = bytes.indices * batches * maskHeads * length;
    throw new ExecutionError(
      `gather-attention: indices of ${size} bytes exceed the ${limits.maxStorageBufferBindingSize} of a binding; take fewer queries at once`,
    );
  }
  // Runs of rows whose lists follow each other: the queries of a head, or of a batch element with all its heads.
  const runHeads = headsFirst ? 1 : heads;
  return Array.from({ length: (batches * heads) / runHeads }, (_, run) => run).flatMap((run) => {
    const [batch, head] = headsFirst ? [Math.floor(run / heads), run % heads] : [run, 0];
    const maskHead = Math.floor((head * maskHeads) / heads);
    const perQuery = { q: runHeads * bytes.q, o: runHeads * bytes.o, indices: bytes.indices };
    return cut(length, perQuery, limits).map(({ start, count }) => {
      const range = (from: number, size: number): { byteOffset: number; byteLength: number } => ({
        byteOffset: from * size,
        byteLength: count * size,
      });
      const row = run * length + start;
      const firstList = (batch * maskHeads + maskHead) * length + start;
      const lseFirst = headsFirst ? row : batch * heads * length;
      return {
        start,
        count: count * runHeads,
        first: row * runHeads,
        lseFirst,
        queries: count,
        firstList,
        ranges: {
          q: range(row, perQuery.q),
          o: range(row, perQuery.o),
          lse: { byteOffset: 4 * lseFirst, byteLength: 4 * (headsFirst ? count : heads * length) },
          indices: range(firstList, bytes.indices),
        },
      };
    });
  });
}

export const gatherAttentionKernel: WebGpuKernel = {
  shader: ({ f16 }, io, attributes) => {
    const names = ['q', 'k', 'v', 'indices', 'table', 'kvMap'];
    return shaderOf('sparse-attention/gather-attention', source, io, names, f16, attributes);
  },
  variants: ['f16'],
  selfTest: (): OpCase => {
    const { inputs, attributes } = halfCase({});
    const indices = { shape: [1, 1, 1, 5], dtype: 'i32' as const, data: Int32Array.of(0, 7, 18, 19, -1) };
    return { inputs: { ...inputs, indices }, attributes };
  },
  plan(io, attributes, limits) {
    const pieces = (q: TensorMeta, v: TensorMeta): ListPiece[] => listPieces(io, q, v, attributes['queryLayout'], limits);
    const [, maskHeads = 0, , slots = 0] = io['indices']?.shape ?? [];
    return dispatches(io, pieces, attributes, limits, {
      extra: ({ firstList }) => [maskHeads, firstList, slots].map(uniform.u32),
    });
  },
};
