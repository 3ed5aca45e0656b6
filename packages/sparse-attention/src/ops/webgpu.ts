import {
  byteSize,
  composedShader,
  cut,
  groupsFor,
  itemsPerBinding,
  seededTensor,
  sizeOf,
  uniform,
  type HostTensor,
  type OpCase,
  type Piece,
  type TensorMeta,
  type UniformWord,
  type WebGpuDispatch,
  type WebGpuKernel,
  type WebGpuLimits,
} from '@filigree/core-tensor';
import attend from '@filigree/wgsl/sparse-attention/attend.wgsl';
import dense from '@filigree/wgsl/sparse-attention/attention.wgsl';
import planned from '@filigree/wgsl/sparse-attention/planned-attention.wgsl';
import { slidingWindow } from '../methods/sliding-window.js';
import { packPlan } from '../pack-plan.js';
import { lowerMask } from '../plan.js';
import { keyCapacity } from './check.js';

type Io = Readonly<Record<string, TensorMeta | undefined>>;

/** Up to so many queries a workgroup works on each; beyond, an invocation does. */
const splitUpTo = 8;

/** The module of an executor for the arguments that are there: absent optional ones have no binding and no offset. */
function shaderOf(
  op: string,
  source: string,
  io: Io,
  names: readonly string[],
  nativeHalf: boolean,
  precision: unknown,
): string {
  const given = names.filter((name) => io[name] !== undefined).join();
  // In steps of 64, so that heads of similar size share a pipeline.
  const channelsPerLane = Math.max(1, Math.ceil((io['v']?.shape[3] ?? 1) / 64));
  return composedShader(`${op} ${given} ${io['k']?.dtype} ${channelsPerLane} ${nativeHalf} ${precision}`, () =>
    compose(source, io, names, nativeHalf, channelsPerLane).replaceAll('ROUNDED', String(precision === 'bf16')),
  );
}

function compose(source: string, io: Io, names: readonly string[], nativeHalf: boolean, channelsPerLane: number): string {
  const half = io['k']?.dtype === 'f16';
  const keyType = half ? (nativeHalf ? 'f16' : 'u32') : 'f32';
  const types: Readonly<Record<string, string>> = {
    q: 'f32',
    k: keyType,
    v: keyType,
    table: 'i32',
    lengths: 'i32',
    plan: 'i32',
  };
  const bound = [...names.filter((name) => io[name] !== undefined), 'o', 'lse'];
  const bindings = bound.map((name, index) =>
    index < bound.length - 2
      ? `@group(0) @binding(${index}) var<storage, read> ${name}: array<${types[name]}>;`
      : `@group(0) @binding(${index}) var<storage, read_write> ${name}: array<f32>;`,
  );
  const offsets = [...names, 'o', 'lse'].map((name) => {
    const index = bound.indexOf(name);
    return `fn ${name}_offset() -> u32 { return ${index < 0 ? '0u' : `p.offsets[${index >> 2}][${index & 3}]`}; }`;
  });
  const load = (name: string): string =>
    half && !nativeHalf
      ? `fn load_${name}(at: u32) -> f32 { let i = ${name}_offset() + at; return unpack2x16float(${name}[i / 2u])[i % 2u]; }`
      : `fn load_${name}(at: u32) -> f32 { return f32(${name}[${name}_offset() + at]); }`;
  const paging = io['table']
    ? [
        'fn page_of(batch: u32, position: u32) -> u32 { return u32(table[table_offset() + batch * p.pages_per_batch + position / p.page_size]); }',
        'fn entry_of(position: u32) -> u32 { return position % p.page_size; }',
      ]
    : [
        'fn page_of(batch: u32, position: u32) -> u32 { return batch; }',
        'fn entry_of(position: u32) -> u32 { return position; }',
      ];
  const block = `@group(0) @binding(${bound.length}) var<uniform> p: Parameters;`;
  return [half && nativeHalf ? 'enable f16;' : '', source, attend]
    .join('\n')
    .replace('/* bindings */', [...bindings, block, ...offsets, load('k'), load('v'), ...paging].join('\n'))
    .replaceAll('OFFSET_WORDS', String(Math.ceil(bound.length / 4)))
    .replaceAll('CHANNELS_PER_LANE', `${channelsPerLane}u`)
    .replaceAll('CHANNELS', `${64 * channelsPerLane}u`)
    .replaceAll(
      'LENGTH_OF_BATCH',
      io['lengths'] ? 'u32(clamp(lengths[lengths_offset() + row.batch], 0, i32(p.capacity)))' : 'p.length_k',
    );
}

interface QueryPiece extends Piece {
  /** First row of q and o. */
  readonly first: number;
  readonly lseFirst: number;
  /** Queries per head, in layout `blhd`. */
  readonly queries: number;
}

/** Pieces of the query rows: any rows in layout `bhld`; in `blhd` whole queries of one batch element, or everything. */
function queryPieces(io: { q: TensorMeta; v: TensorMeta }, headsFirst: boolean, limits: WebGpuLimits): QueryPiece[] {
  const { q, v } = io;
  const [heads, lengthQ] = headsFirst ? [q.shape[1], q.shape[2]] : [q.shape[2], q.shape[1]];
  const bytes = { q: 4 * q.shape[3], o: 4 * v.shape[3] };
  const perBatch = heads * lengthQ;
  const total = q.shape[0] * perBatch;
  if (headsFirst) {
    return cut(total, { ...bytes, lse: 4 }, limits).map((piece) => ({
      ...piece,
      first: piece.start,
      lseFirst: piece.start,
      queries: lengthQ,
    }));
  }
  if (total <= itemsPerBinding(limits, Math.max(4, bytes.q, bytes.o))) {
    return total === 0 ? [] : [{ start: 0, count: total, ranges: {}, first: 0, lseFirst: 0, queries: lengthQ }];
  }
  return Array.from({ length: q.shape[0] }, (_, batch) => batch * perBatch).flatMap((batchFirst) =>
    cut(perBatch, bytes, limits, heads).map(({ start, count }) => {
      const range = (size: number): { byteOffset: number; byteLength: number } => ({
        byteOffset: (batchFirst + start) * size,
        byteLength: count * size,
      });
      return {
        start,
        count,
        first: batchFirst + start,
        lseFirst: batchFirst,
        queries: count / heads,
        ranges: { q: range(bytes.q), o: range(bytes.o), lse: { byteOffset: 4 * batchFirst, byteLength: 4 * perBatch } },
      };
    }),
  );
}

/** Every piece of the queries with every window of the keys; windows after the first go on from what is in o and lse. */
function dispatches(io: Io, layout: unknown, limits: WebGpuLimits, extra: readonly UniformWord[]): WebGpuDispatch[] {
  const { q, k, v, table } = io;
  if (!q || !k || !v || sizeOf(q.shape.slice(0, 3)) === 0) return [];
  const headsFirst = layout === 'bhld';
  const [heads, lengthQ] = headsFirst ? [q.shape[1], q.shape[2]] : [q.shape[2], q.shape[1]];
  const size = byteSize(k.dtype);
  const keyRows = k.shape[0] * k.shape[1] * k.shape[2];
  const windows = cut(keyRows, { k: size * k.shape[3], v: size * v.shape[3] }, limits, 2);
  const split = lengthQ <= splitUpTo;
  return queryPieces({ q, v }, headsFirst, limits).flatMap((piece) =>
    (windows.length > 0 ? windows : [{ start: 0, count: 0, ranges: {} }]).map((window) => ({
      entryPoint: split ? 'split' : 'rows',
      workgroups: split ? ([piece.count] as const) : groupsFor(piece.count),
      uniforms: [
        ...[piece.count, piece.first, piece.queries, piece.lseFirst, heads, lengthQ, q.shape[3], v.shape[3]],
        ...[k.shape[1], k.shape[2], table?.shape[1] ?? 1, headsFirst ? 1 : 0],
        ...[window.start, window.count, keyCapacity(k, table), window.start > 0 ? 1 : 0],
      ]
        .map(uniform.u32)
        .concat(extra),
      ranges: { ...piece.ranges, ...window.ranges },
    })),
  );
}

export const attentionKernel: WebGpuKernel = {
  shader: ({ f16 }, io, { precision }) =>
    shaderOf('sparse-attention/attention', dense, io, ['q', 'k', 'v', 'table', 'lengths'], f16, precision),
  variants: ['f16'],
  selfTest: () => halfCase({ causal: true, window: 0, lengthK: 20 }),
  plan(io, { scale, softcap, causal, window, lengthK, queryLayout }, limits) {
    const capacity = io['k'] ? keyCapacity(io['k'], io['table']) : 0;
    return dispatches(io, queryLayout, limits, [
      uniform.f32(Number(scale)),
      uniform.f32(Number(softcap)),
      uniform.u32(causal ? 1 : 0),
      uniform.u32(Number(window)),
      uniform.u32(Number(lengthK) < 0 ? capacity : Number(lengthK)),
    ]);
  },
};

export const plannedAttentionKernel: WebGpuKernel = {
  shader: ({ f16 }, io, { precision }) =>
    shaderOf('sparse-attention/planned-attention', planned, io, ['q', 'k', 'v', 'plan', 'table'], f16, precision),
  variants: ['f16'],
  selfTest: () => {
    const { inputs, attributes } = halfCase({});
    return { inputs: { ...inputs, plan: onePlan() }, attributes };
  },
  plan: (io, { scale, softcap, queryLayout }, limits) =>
    dispatches(io, queryLayout, limits, [uniform.f32(Number(scale)), uniform.f32(Number(softcap))]),
};

/** A call with half-precision keys: what the f16 variant reads differently. */
function halfCase(attributes: OpCase['attributes']): OpCase {
  return {
    inputs: {
      q: seededTensor(1, [1, 2, 1, 8]),
      k: seededTensor(2, [1, 1, 20, 8], { dtype: 'f16' }),
      v: seededTensor(3, [1, 1, 20, 8], { dtype: 'f16' }),
    },
    attributes: { scale: 0.35, softcap: 0, queryLayout: 'bhld', ...attributes },
  };
}

/** Every key that one query at the end of 20 may see through a window of six. */
function onePlan(): HostTensor {
  const mask = slidingWindow({ window: 6 })({ batch: 1, heads: 2, lenQ: [1], lenK: [20] });
  const data = packPlan(lowerMask(mask));
  return { shape: [data.length], dtype: 'i32', data };
}
