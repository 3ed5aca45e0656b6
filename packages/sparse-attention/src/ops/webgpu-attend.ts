import {
  byteSize,
  composedShader,
  cut,
  ExecutionError,
  groupsFor,
  itemsPerBinding,
  seededTensor,
  sizeOf,
  uniform,
  type AttributeValue,
  type OpCase,
  type Piece,
  type TensorMeta,
  type UniformWord,
  type WebGpuDispatch,
  type WebGpuLimits,
} from '@filigree/core-tensor';
import attend from '@filigree/wgsl/sparse-attention/attend.wgsl';
import biased from '@filigree/wgsl/sparse-attention/biased.wgsl';
import tiles from '@filigree/wgsl/sparse-attention/tiles.wgsl';
import unbiased from '@filigree/wgsl/sparse-attention/unbiased.wgsl';
import untiled from '@filigree/wgsl/sparse-attention/untiled.wgsl';
import { keyCapacity } from './check.js';
import { bindings, type Io } from './webgpu-bindings.js';

/** Up to so many queries a workgroup works on each; beyond, an invocation does. */
const splitUpTo = 8;

type Attributes = Readonly<Record<string, AttributeValue>>;

/** Whether keys are decided upon by tiles. */
const isTiled = ({ pvSkip = 0, scoreM = 0 }: Attributes): boolean => pvSkip !== 0 || scoreM !== 0;

/** The module of an executor for the arguments that are there: absent optional ones have no binding and no offset. */
export function shaderOf(
  op: string,
  source: string,
  io: Io,
  names: readonly string[],
  nativeHalf: boolean,
  attributes: Attributes,
): string {
  const { precision, scoreM = 0 } = attributes;
  const given = names.filter((name) => io[name] !== undefined).join();
  // In steps of 64, so that heads of similar size share a pipeline.
  const channelsPerLane = Math.max(1, Math.ceil((io['v']?.shape[3] ?? 1) / 64));
  const [tiled, competing] = [isTiled(attributes), scoreM !== 0];
  const key = [op, given, io['k']?.dtype, channelsPerLane, nativeHalf, precision, tiled, competing].join(' ');
  return composedShader(key, () =>
    compose([source, attend, tiled ? tiles : untiled, io['bias'] ? biased : unbiased], io, names, nativeHalf, channelsPerLane)
      .replaceAll('ROUNDED', String(precision === 'bf16'))
      .replaceAll('SCORE_M', String(competing)),
  );
}

/** WGSL that reads numbers of `name`, and of keys' places in their pages. */
export function readers(io: Io, names: readonly string[], nativeHalf: boolean): string {
  const half = io['k']?.dtype === 'f16';
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
  return [...names.map(load), ...paging].join('\n');
}

/** Element types of bindings; half-precision keys are pairs in words where the device has no f16. */
export function bindingTypes(io: Io, nativeHalf: boolean): Record<string, string> {
  const keyType = io['k']?.dtype === 'f16' ? (nativeHalf ? 'f16' : 'u32') : 'f32';
  return { k: keyType, v: keyType, table: 'i32', lengths: 'i32', plan: 'i32', indices: 'i32', kvMap: 'i32' };
}

/** Key-value head of a query head, of arguments without a plan. */
const mapped = 'fn kv_head_of(head: u32) -> u32 { return u32(kvMap[kvMap_offset() + head]); }';
const grouped = 'fn kv_head_of(head: u32) -> u32 { return head / (p.heads / p.kv_heads); }';

function compose(
  sources: readonly string[],
  io: Io,
  names: readonly string[],
  nativeHalf: boolean,
  channelsPerLane: number,
): string {
  const declared = bindings(io, names, ['o', 'lse'], bindingTypes(io, nativeHalf));
  const heads = io['plan'] ? '' : io['kvMap'] ? mapped : grouped;
  return [io['k']?.dtype === 'f16' && nativeHalf ? 'enable f16;' : '', ...sources]
    .join('\n')
    .replace('/* bindings */', [declared.text, readers(io, ['k', 'v'], nativeHalf), heads].join('\n'))
    .replaceAll('OFFSET_WORDS', String(declared.offsetWords))
    .replaceAll('CHANNELS_PER_LANE', `${channelsPerLane}u`)
    .replaceAll('CHANNELS', `${64 * channelsPerLane}u`)
    .replaceAll(
      'LENGTH_OF_BATCH',
      io['lengths'] ? 'u32(clamp(lengths[lengths_offset() + row.batch], 0, i32(p.capacity)))' : 'p.length_k',
    );
}

export interface QueryPiece extends Piece {
  /** First row of q and o. */
  readonly first: number;
  readonly lseFirst: number;
  /** Queries per head, in layout `blhd`. */
  readonly queries: number;
}

/** Pieces of the query rows: any rows in layout `bhld`; in `blhd` whole queries of one batch element, or everything. */
export function queryPieces(q: TensorMeta, v: TensorMeta, layout: unknown, limits: WebGpuLimits): QueryPiece[] {
  const headsFirst = layout === 'bhld';
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

/** Windows of the rows of k and v, and of biases if keys have some, that a binding holds; one without rows where there are no keys. */
export function keyWindows(k: TensorMeta, v: TensorMeta | undefined, limits: WebGpuLimits, biased = false): Piece[] {
  const size = byteSize(k.dtype);
  const bytes = {
    k: size * k.shape[3],
    ...(v ? { v: size * v.shape[3] } : {}),
    ...(biased ? { bias: Float32Array.BYTES_PER_ELEMENT } : {}),
  };
  const windows = cut(k.shape[0] * k.shape[1] * k.shape[2], bytes, limits, 2);
  return windows.length > 0 ? windows : [{ start: 0, count: 0, ranges: {} }];
}

/**
 * Every piece of the queries with every window of the keys; windows after the first go on from what is in o and lse.
 *
 * @throws ExecutionError when keys are decided upon by tiles and a binding does not hold them all.
 */
export function dispatches<P extends QueryPiece>(
  { q, k, v, table, bias }: Io,
  pieces: (q: TensorMeta, v: TensorMeta) => readonly P[],
  attributes: Attributes,
  limits: WebGpuLimits,
  { inRows = false, extra }: { readonly inRows?: boolean; readonly extra: (piece: P) => readonly UniformWord[] },
): WebGpuDispatch[] {
  if (!q || !k || !v || sizeOf(q.shape.slice(0, 3)) === 0) return [];
  const { queryLayout, scale, softcap, pvSkip = 0, scoreN = 0, scoreM = 0, scoreSinks = 0, scoreRecent = 0 } = attributes;
  const headsFirst = queryLayout === 'bhld';
  const [heads, lengthQ] = headsFirst ? [q.shape[1], q.shape[2]] : [q.shape[2], q.shape[1]];
  const windows = keyWindows(k, v, limits, bias !== undefined);
  if (windows.length > 1 && isTiled(attributes))
    throw new ExecutionError(
      `attention: pvSkip and scoreM need k and v within a binding of ${limits.maxStorageBufferBindingSize} bytes`,
    );
  const split = lengthQ <= splitUpTo && !inRows;
  return pieces(q, v).flatMap((piece) =>
    windows.map((window) => ({
      entryPoint: split ? 'split' : 'rows',
      workgroups: split ? ([piece.count] as const) : groupsFor(piece.count),
      uniforms: [
        ...[
          ...[piece.count, piece.first, piece.queries, piece.lseFirst, heads, lengthQ, q.shape[3], v.shape[3]],
          ...[k.shape[1], k.shape[2], table?.shape[1] ?? 1, headsFirst ? 1 : 0],
          ...[window.start, window.count, keyCapacity(k, table), window.start > 0 ? 1 : 0],
        ].map(uniform.u32),
        ...[scale, softcap, pvSkip].map(Number).map(uniform.f32),
        ...[scoreN, scoreM, scoreSinks, scoreRecent].map(Number).map(uniform.u32),
        ...extra(piece),
      ],
      ranges: { ...piece.ranges, ...window.ranges },
    })),
  );
}

/** A call with half-precision keys: what the f16 variant reads differently. */
export function halfCase(attributes: OpCase['attributes']): OpCase {
  return {
    inputs: {
      q: seededTensor(1, [1, 2, 1, 8]),
      k: seededTensor(2, [1, 1, 20, 8], { dtype: 'f16' }),
      v: seededTensor(3, [1, 1, 20, 8], { dtype: 'f16' }),
    },
    attributes: { scale: 0.35, softcap: 0, queryLayout: 'bhld', ...attributes },
  };
}
