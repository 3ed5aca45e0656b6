import type { TensorMeta, WebGpuKernel } from '@filigree/core-tensor';
import attend from '@filigree/wgsl/sparse-attention/attend.wgsl';
import dense from '@filigree/wgsl/sparse-attention/attention.wgsl';
import planned from '@filigree/wgsl/sparse-attention/planned-attention.wgsl';

type Io = Readonly<Record<string, TensorMeta | undefined>>;

const u32 = (value: number): { readonly type: 'u32'; readonly value: number } => ({ type: 'u32', value });
const i32 = (value: number): { readonly type: 'i32'; readonly value: number } => ({ type: 'i32', value });
const f32 = (value: number): { readonly type: 'f32'; readonly value: number } => ({ type: 'f32', value });

/** Largest head dim the shaders keep in registers. */
const maximumDim = 256;

/** Bindings and their offsets: present arguments take the next binding, absent optional ones none. */
function compose(source: string, io: Io, names: readonly string[]): string {
  const half = io['k']?.dtype === 'f16';
  const types: Readonly<Record<string, string>> = {
    q: 'f32',
    k: half ? 'u32' : 'f32',
    v: half ? 'u32' : 'f32',
    table: 'i32',
    lengths: 'i32',
    plan: 'i32',
  };
  const bound = names.filter((name) => io[name] !== undefined);
  const lines = bound.map((name, index) => `@group(0) @binding(${index}) var<storage, read> ${name}: array<${types[name]}>;`);
  lines.push(`@group(0) @binding(${bound.length}) var<storage, read_write> o: array<f32>;`);
  lines.push(`@group(0) @binding(${bound.length + 1}) var<storage, read_write> lse: array<f32>;`);
  lines.push(`@group(0) @binding(${bound.length + 2}) var<uniform> p: Parameters;`);
  const offset = (index: number): string => `p.offsets[${index >> 2}][${index & 3}]`;
  const offsets = [...names, 'o', 'lse'].map((name) => {
    const index = name === 'o' ? bound.length : name === 'lse' ? bound.length + 1 : bound.indexOf(name);
    return `fn ${name}_offset() -> u32 { return ${index < 0 ? '0u' : offset(index)}; }`;
  });
  const dims = Math.min(maximumDim, Math.max(io['q']?.shape[3] ?? 1, io['v']?.shape[3] ?? 1));
  const load = (name: string): string =>
    half
      ? `fn load_${name}(at: u32) -> f32 { let i = ${name}_offset() + at; return unpack2x16float(${name}[i / 2u])[i % 2u]; }`
      : `fn load_${name}(at: u32) -> f32 { return ${name}[${name}_offset() + at]; }`;
  const table = io['table']
    ? 'fn page_of(batch: u32, position: u32) -> u32 { return u32(table[table_offset() + batch * p.pages_per_batch + position / p.page_size]); }'
    : 'fn page_of(batch: u32, position: u32) -> u32 { return batch; }';
  const entry = io['table'] ? 'position % p.page_size' : 'position';
  const words = Math.ceil((bound.length + 2) / 4);
  return [source, attend]
    .join('\n')
    .replace(
      '/* bindings */',
      [...lines, ...offsets, load('k'), load('v'), table, `fn entry_of(position: u32) -> u32 { return ${entry}; }`].join('\n'),
    )
    .replaceAll('OFFSET_WORDS', String(words))
    .replaceAll('DIMS', `${dims}u`)
    .replaceAll('LENGTH_OF_BATCH', io['lengths'] ? 'u32(lengths[lengths_offset() + batch])' : 'p.length_k');
}

function geometry(io: Io, layout: unknown): { rows: number; uniforms: ReturnType<typeof u32>[] } {
  const { q, k, v, table } = io;
  if (!q || !k || !v) return { rows: 0, uniforms: [] };
  const headsFirst = layout === 'bhld';
  const [batch, heads, lengthQ] = headsFirst ? q.shape : [q.shape[0], q.shape[2], q.shape[1]];
  return {
    rows: batch * heads * lengthQ,
    uniforms: [
      batch,
      heads,
      lengthQ,
      q.shape[3],
      v.shape[3],
      k.shape[1],
      k.shape[2],
      table?.shape[1] ?? 1,
      headsFirst ? 1 : 0,
    ].map(u32),
  };
}

export const attentionKernel: WebGpuKernel = {
  shader: (_, io) => compose(dense, io, ['q', 'k', 'v', 'table', 'lengths']),
  plan(io, { scale, softcap, causal, window, lengthK, queryLayout }) {
    const { rows, uniforms } = geometry(io, queryLayout);
    const capacity = io['table'] ? io['table'].shape[1] * (io['k']?.shape[2] ?? 0) : (io['k']?.shape[2] ?? 0);
    const length = Number(lengthK) < 0 ? capacity : Number(lengthK);
    return [
      {
        workgroups: [Math.ceil(rows / 64)],
        uniforms: [
          ...uniforms,
          f32(Number(scale)),
          f32(Number(softcap)),
          u32(causal ? 1 : 0),
          i32(Number(window)),
          u32(length),
        ],
      },
    ];
  },
};

export const plannedAttentionKernel: WebGpuKernel = {
  shader: (_, io) => compose(planned, io, ['q', 'k', 'v', 'plan', 'table']),
  plan(io, { scale, softcap, queryLayout }) {
    const { rows, uniforms } = geometry(io, queryLayout);
    return [{ workgroups: [Math.ceil(rows / 64)], uniforms: [...uniforms, f32(Number(scale)), f32(Number(softcap))] }];
  },
};
