import {
  byteSize,
  composedShader,
  cut,
  itemsPerBinding,
  uniform,
  type BindingRanges,
  type DType,
  type Piece,
  type TensorMeta,
  type UniformWord,
  type WebGpuLimits,
} from '@filigree/core-tensor';
import common from '@filigree/wgsl/sparse-attention/selection.wgsl';
import { keyCapacity } from '../ops/check.js';

export type Io = Readonly<Record<string, TensorMeta | undefined>>;

/** How the shader of a selection kernel is composed. */
export interface SelectionShader {
  readonly op: string;
  readonly source: string;
  /** Arguments in the order of the op: inputs that are read. Absent optional ones have no binding. */
  readonly inputs: readonly string[];
  /** Results with their WGSL element types. */
  readonly outputs: Readonly<Record<string, 'f32' | 'u32'>>;
  /** The argument that holds pages of keys; other pages are of its type. */
  readonly pages: readonly string[];
  readonly scratch?: 'f32' | 'u32';
  /** Words of the op behind the common ones. */
  readonly extra: Readonly<Record<string, 'u32' | 'f32'>>;
}

const words = [
  'batch',
  'heads',
  'kv_heads',
  'length_q',
  'dim',
  'key_dim',
  'page_size',
  'pages_per_batch',
  'capacity',
  'length_k',
  'heads_first',
  'first_q',
  'first_key_row',
  'key_rows',
] as const;

const integers = /* @__PURE__ */ new Set(['table', 'lengths', 'kvMap', 'channels', 'plan', 'slots']);

/** The module of a selection kernel for the arguments that are there. */
export function selectionShader(shader: SelectionShader, io: Io): string {
  const given = shader.inputs.filter((name) => io[name] !== undefined);
  const dtype = io[shader.pages[0]]?.dtype ?? 'f32';
  return composedShader(`${shader.op} ${given.join()} ${dtype}`, () => compose(shader, given, dtype));
}

/** Both numbers of a word of pages, by type. */
const unpacked: Partial<Record<DType, (word: string) => string>> = {
  f16: (word) => `unpack2x16float(${word})`,
  bf16: (word) => `bitcast<vec2f>(vec2u(${word} << 16u, ${word} & 0xffff0000u))`,
};

function compose(shader: SelectionShader, given: readonly string[], dtype: DType): string {
  const { inputs, outputs, pages, scratch, extra } = shader;
  const unpack = unpacked[dtype];
  const typeOf = (name: string): string => (integers.has(name) ? 'i32' : pages.includes(name) && unpack ? 'u32' : 'f32');
  const bound = [...given, ...Object.keys(outputs), ...(scratch ? ['scratch'] : [])];
  const bindings = bound.map((name, index) => {
    const type = outputs[name] ?? (name === 'scratch' ? (scratch ?? 'u32') : typeOf(name));
    const access = given.includes(name) ? 'read' : 'read_write';
    return `@group(0) @binding(${index}) var<storage, ${access}> ${name}: array<${type}>;`;
  });
  const offsets = [...new Set([...inputs, ...bound])].map((name) => {
    const index = bound.indexOf(name);
    return `fn ${name}_offset() -> u32 { return ${index < 0 ? '0u' : `p.offsets[${index >> 2}][${index & 3}]`}; }`;
  });
  const loads = pages.map((name) =>
    unpack
      ? `fn load_${name}(at: u32) -> f32 { let i = ${name}_offset() + at; return ${unpack(`${name}[i / 2u]`)}[i % 2u]; }`
      : `fn load_${name}(at: u32) -> f32 { return ${name}[${name}_offset() + at]; }`,
  );
  const has = (name: string): boolean => given.includes(name);
  const places = [
    has('table')
      ? 'fn page_of(batch: u32, position: u32) -> u32 { return u32(table[table_offset() + batch * p.pages_per_batch + position / p.page_size]); }'
      : 'fn page_of(batch: u32, position: u32) -> u32 { return batch; }',
    `fn entry_of(position: u32) -> u32 { return position${has('table') ? ' % p.page_size' : ''}; }`,
    has('lengths')
      ? 'fn queries_of(batch: u32) -> u32 { return u32(clamp(lengths[lengths_offset() + 2u * batch], 0, i32(p.length_q))); }\n' +
        'fn keys_of(batch: u32) -> u32 { return u32(clamp(lengths[lengths_offset() + 2u * batch + 1u], 0, i32(p.capacity))); }'
      : 'fn queries_of(batch: u32) -> u32 { return p.length_q; }\nfn keys_of(batch: u32) -> u32 { return p.length_k; }',
    has('kvMap')
      ? 'fn kv_head_of(head: u32) -> u32 { return u32(kvMap[kvMap_offset() + head]); }'
      : 'fn kv_head_of(head: u32) -> u32 { return head / (p.heads / p.kv_heads); }',
  ];
  const fields = [...words.map((name) => `${name}: u32`), ...Object.entries(extra).map(([name, type]) => `${name}: ${type}`)];
  const parameters = `struct Parameters {\n  offsets: array<vec4u, ${Math.ceil(bound.length / 4)}>,\n  ${fields.join(',\n  ')},\n}`;
  const block = `@group(0) @binding(${bound.length}) var<uniform> p: Parameters;`;
  return [parameters, ...bindings, block, ...offsets, ...loads, ...places, shader.source, common].join('\n');
}

/** What of q and of the pages a dispatch sees. */
export interface Window {
  readonly firstQ?: number;
  readonly firstKeyRow?: number;
  readonly keyRows?: number;
}

/** The common words of a dispatch. `keysPerRow`: keys that a row of the pages stands for. */
export function commonWords(
  q: TensorMeta,
  pages: TensorMeta,
  table: TensorMeta | undefined,
  { queryLayout, lengthK }: Readonly<Record<string, unknown>>,
  { firstQ = 0, firstKeyRow = 0, keyRows = pages.shape[0] * pages.shape[1] * pages.shape[2] }: Window = {},
  keysPerRow = 1,
): UniformWord[] {
  const headsFirst = queryLayout === 'bhld';
  const [heads, lengthQ] = headsFirst ? [q.shape[1], q.shape[2]] : [q.shape[2], q.shape[1]];
  const capacity = keyCapacity(pages, table) * keysPerRow;
  const keys = Number(lengthK) < 0 ? capacity : Number(lengthK);
  return [
    ...[q.shape[0], heads, pages.shape[1], lengthQ, q.shape[3], pages.shape[3], pages.shape[2], table?.shape[1] ?? 1],
    ...[capacity, keys, headsFirst ? 1 : 0, firstQ, firstKeyRow, keyRows],
  ].map(uniform.u32);
}

/** Rows of [B, Hq, Lq] that one dispatch works on, and where q begins for them. */
export interface RowPiece extends Piece {
  readonly firstQ: number;
}

/** Pieces of the rows [B, Hq, Lq] whose part of q and of the results, so many bytes a row, fits into bindings. */
export function rowPieces(
  q: TensorMeta,
  queryLayout: unknown,
  bytes: Readonly<Record<string, number>>,
  limits: WebGpuLimits,
): RowPiece[] {
  const headsFirst = queryLayout === 'bhld';
  const [batch, dim] = [q.shape[0], q.shape[3]];
  const [heads, lengthQ] = headsFirst ? [q.shape[1], q.shape[2]] : [q.shape[2], q.shape[1]];
  const total = batch * heads * lengthQ;
  if (total <= itemsPerBinding(limits, 4 * dim)) return cut(total, bytes, limits).map((piece) => ({ ...piece, firstQ: 0 }));
  if (headsFirst) return cut(total, { q: 4 * dim, ...bytes }, limits).map((piece) => ({ ...piece, firstQ: piece.start * dim }));
  // Queries of one head in layout blhd lie `heads` rows apart: a piece binds those of all heads between them.
  const most = itemsPerBinding(limits, Math.max(4 * dim * heads, ...Object.values(bytes)));
  return Array.from({ length: batch * heads }, (_, at) => at).flatMap((at) =>
    Array.from({ length: Math.ceil(lengthQ / most) }, (_, index) => {
      const [query, count] = [index * most, Math.min(most, lengthQ - index * most)];
      const start = at * lengthQ + query;
      const firstQ = (Math.floor(at / heads) * lengthQ + query) * heads * dim;
      const ranges: BindingRanges = Object.fromEntries([
        ...Object.entries(bytes).map(([name, size]) => [name, { byteOffset: start * size, byteLength: count * size }] as const),
        ['q', { byteOffset: 4 * firstQ, byteLength: 4 * count * heads * dim }] as const,
      ]);
      return { start, count, ranges, firstQ };
    }),
  );
}

/** Windows of the rows of pages [pages,Hk,P,·]; at least one. */
export function pageWindows(io: Io, names: readonly string[], limits: WebGpuLimits): Piece[] {
  const sizes = names.flatMap((name) => {
    const meta = io[name];
    return meta ? [[name, byteSize(meta.dtype) * meta.shape[3]] as const] : [];
  });
  const [pages, heads, rows] = io[names[0]]?.shape ?? [0, 0, 0];
  const windows = cut(pages * heads * rows, Object.fromEntries(sizes), limits, 2);
  return windows.length > 0 ? windows : [{ start: 0, count: 0, ranges: {} }];
}
