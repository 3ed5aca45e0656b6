import {
  cut,
  groupsFor,
  sizeOf,
  uniform,
  type WebGpuDispatch,
  type WebGpuKernel,
  type WebGpuLimits,
} from '@filigree/core-tensor';
import shader from '@filigree/wgsl/sparse-attention/chunk-descent.wgsl';
import { keyCapacity } from '../ops/check.js';
import { commonWords, selectionShader, type Io } from './webgpu.js';

/** Most bytes of scratch: rows beyond what it holds come after. */
const scratchBytes = 1 << 24;

/** Nodes that are kept, at most one a block; what a row of scratch takes; rows that are worked on together. */
function sizes(io: Io, keep: number, blockK: number, limits: WebGpuLimits): { kept: number; levels: number; together: number } {
  const blocks = io['k'] ? Math.ceil(keyCapacity(io['k'], io['table']) / blockK) : 0;
  const kept = Math.max(1, Math.min(keep, blocks));
  const levels = Math.ceil(Math.log2(Math.max(1, Math.ceil(blocks / kept))));
  const most = Math.min(scratchBytes, limits.maxStorageBufferBindingSize);
  return { kept, levels, together: Math.max(1, Math.floor(most / (40 * kept))) };
}

export const chunkDescentKernel: WebGpuKernel = {
  shader: (_, io) =>
    selectionShader(
      {
        op: 'sparse-attention/chunk-descent',
        source: shader,
        inputs: ['q', 'k', 'table', 'lengths', 'kvMap'],
        outputs: { bits: 'u32' },
        pages: ['k'],
        scratch: 'u32',
        extra: {
          rows: 'u32',
          first_row: 'u32',
          row_blocks: 'u32',
          row_words: 'u32',
          keep: 'u32',
          block_q: 'u32',
          block_k: 'u32',
          stride_q: 'u32',
        },
      },
      io,
    ),
  scratch(io, { keep, blockK }, limits) {
    const rows = io['bits'] ? sizeOf(io['bits'].shape.slice(0, 3)) : 0;
    const { kept, together } = sizes(io, Number(keep), Number(blockK), limits);
    return 40 * kept * Math.min(rows, together);
  },
  plan(io, { keep, blockQ, blockK, strideQ, ...attributes }, limits) {
    const { q, k, table, bits } = io;
    if (!q || !k || !bits || sizeOf(bits.shape) === 0) return [];
    const [batch, heads, rows, words] = bits.shape;
    const { kept, levels, together } = sizes(io, Number(keep), Number(blockK), limits);
    // A row counts with its scratch, so that a piece fits into both.
    const pieces = cut(
      batch * heads * rows,
      { bits: Math.max(4 * words, Math.ceil(limits.maxStorageBufferBindingSize / together)) },
      limits,
    );
    return pieces.flatMap(({ start, count }) => {
      const ranges = { bits: { byteOffset: 4 * words * start, byteLength: 4 * words * count } };
      const dispatch = (entryPoint: string, invocations: number): WebGpuDispatch => ({
        entryPoint,
        workgroups: groupsFor(invocations),
        uniforms: [
          ...commonWords(q, k, table, attributes),
          ...[count, start, rows, words, kept, Number(blockQ), Number(blockK), Number(strideQ)].map(uniform.u32),
        ],
        ranges,
      });
      const level = ['score', 'rank', 'compact'].map((entryPoint) => dispatch(entryPoint, 2 * kept * count));
      return [
        dispatch('begin', kept * count),
        ...Array.from({ length: levels }, () => level).flat(),
        dispatch('emit', count * words),
      ];
    });
  },
};
