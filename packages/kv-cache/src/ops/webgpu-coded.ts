import {
  byteSize,
  composedShader,
  cut,
  groupsFor,
  sizeOf,
  uniform,
  type AttributeValue,
  type Piece,
  type WebGpuKernel,
  type WebGpuLimits,
} from '@filigree/core-tensor';
import { bindings, queryPieces, type Io } from '@filigree/sparse-attention';
import codes from '@filigree/wgsl/kv-cache/codes.wgsl';
import codesBitmap from '@filigree/wgsl/kv-cache/codes-bitmap.wgsl';
import codedAttention from '@filigree/wgsl/kv-cache/coded-attention.wgsl';
import decode from '@filigree/wgsl/kv-cache/decode.wgsl';
import encode from '@filigree/wgsl/kv-cache/encode.wgsl';
import encodeBitmap from '@filigree/wgsl/kv-cache/encode-bitmap.wgsl';
import encodeLevels from '@filigree/wgsl/kv-cache/encode-levels.wgsl';
import attend from '@filigree/wgsl/sparse-attention/attend.wgsl';
import unbiased from '@filigree/wgsl/sparse-attention/unbiased.wgsl';
import untiled from '@filigree/wgsl/sparse-attention/untiled.wgsl';
import { codedLayout, type CodedLayout, type KvFormat, type KvSide } from '../codecs/layout.js';
import { levelsOf } from '../codecs/turbo-levels.js';

type Attributes = Readonly<Record<string, AttributeValue>>;

/** Up to so many queries a workgroup works on each; beyond, an invocation does. */
const splitUpTo = 8;

/** A shader with the numbers of a layout in place of their names: what is divided by them is shifted. */
function withLayout(source: string, layout: CodedLayout): string {
  const {
    bitmap,
    format,
    side,
    bits,
    perEntry,
    pageSize,
    dim,
    rows,
    columns,
    paddedRows,
    groups,
    groupBytes,
    scalesAt,
    zerosAt,
    bytes,
  } = layout;
  const numbers = {
    ...{ PAGE_BYTES: bytes, PAGE_SIZE: pageSize, GROUP_BYTES: groupBytes, SCALES_AT: scalesAt, ZEROS_AT: zerosAt },
    ...{ PADDED_ROWS: paddedRows, ROWS: rows, COLUMNS: columns, GROUPS: groups, BITS: bits, DIM: dim },
    ...{ KEPT: bitmap?.kept ?? 0, BITS_AT: bitmap?.bitsAt ?? 0, OFFSETS_AT: bitmap?.offsetsAt ?? 0 },
  };
  const levels = levelsOf(format);
  const text = source
    .replaceAll('OF_KEYS', String(side === 'keys'))
    .replaceAll('PER_ENTRY', String(perEntry))
    .replaceAll('LEVEL_VALUES', constants(levels?.values))
    .replaceAll('LEVEL_THRESHOLDS', constants(levels?.thresholds));
  return Object.entries(numbers).reduce(
    (all, [name, value]) => all.replace(new RegExp(`\\b${name}\\b`, 'g'), `${value}u`),
    text,
  );
}

function constants(values: readonly number[] = [0]): string {
  return `array<f32, ${values.length}>(${values.join(', ')})`;
}

/** What reads numbers of the pages of a side. */
function codesOf(name: string, layout: CodedLayout): string {
  return withLayout((layout.bitmap ? codesBitmap : codes).replaceAll('SIDE', name), layout);
}

function composed(
  sources: string,
  io: Io,
  inputs: readonly string[],
  outputs: readonly string[],
  types: Record<string, string>,
): string {
  const declared = bindings(io, inputs, outputs, types);
  return sources.replace('/* bindings */', declared.text).replaceAll('OFFSET_WORDS', String(declared.offsetWords));
}

function keyOf(name: string, ...layouts: readonly CodedLayout[]): string {
  return [`kv-cache/${name}`, ...layouts.map(({ format, side, pageSize, dim }) => [format, side, pageSize, dim].join())].join(
    ' ',
  );
}

/** Windows of the pages of heads that a binding holds. */
function windows(count: number, bytes: Readonly<Record<string, number>>, limits: WebGpuLimits): Piece[] {
  const found = cut(count, bytes, limits);
  return found.length > 0 ? found : [{ start: 0, count: 0, ranges: {} }];
}

function encodeLayout({ pages }: Io, { side, format }: Attributes): CodedLayout {
  return codedLayout(format as KvFormat, side as KvSide, pages?.shape[2] ?? 0, pages?.shape[3] ?? 0);
}

/** Invocations for the page of a head. */
function encodeUnits({ bits, bitmap, perEntry, side, pageSize, groups, paddedRows }: CodedLayout): number {
  if (bitmap) return side === 'keys' ? groups : pageSize / 2;
  if (bits === 8) return pageSize / (side === 'keys' ? 4 : 2);
  if (perEntry) return side === 'keys' ? 8 * groups : (pageSize * bits) / 16;
  return (groups * paddedRows * bits) / 16;
}

export const encodeKernel: WebGpuKernel = {
  shader(_, io, attributes) {
    const layout = encodeLayout(io, attributes);
    const half = io['pages']?.dtype === 'f16';
    return composedShader(`${keyOf('encode', layout)} ${half}`, () => {
      const types = { pages: half ? 'u32' : 'f32', sources: 'i32', targets: 'i32', coded: 'u32' };
      const load = half
        ? 'let i = pages_offset() + at; return unpack2x16float(pages[i / 2u])[i % 2u];'
        : 'return pages[pages_offset() + at];';
      const text = composed(
        withLayout(`${encode}\n${encodeLevels}\n${encodeBitmap}`, layout),
        io,
        ['pages', 'sources', 'targets'],
        ['coded'],
        types,
      );
      return `${text}\nfn load_pages(at: u32) -> f32 { ${load} }`;
    });
  },
  plan(io, attributes, limits) {
    const { pages, sources, coded } = io;
    if (!pages || !sources || !coded) return [];
    const layout = encodeLayout(io, attributes);
    const [heads, units] = [pages.shape[1], encodeUnits(layout)];
    const count = sources.shape[0] * heads * units;
    if (count === 0) return [];
    const size = byteSize(pages.dtype) * layout.pageSize * layout.dim;
    const from = windows(pages.shape[0] * heads, { pages: size }, limits);
    const to = windows(coded.shape[0] * heads, { coded: layout.bytes }, limits);
    return from.flatMap((source) =>
      to.map((target) => ({
        workgroups: groupsFor(count),
        uniforms: [count, units, heads, source.start, source.count, target.start, target.count].map(uniform.u32),
        ranges: { ...source.ranges, ...target.ranges },
      })),
    );
  },
};

function decodeLayout({ side, format, pageSize, dim }: Attributes): CodedLayout {
  return codedLayout(format as KvFormat, side as KvSide, Number(pageSize), Number(dim));
}

export const decodeKernel: WebGpuKernel = {
  shader(_, io, attributes) {
    const layout = decodeLayout(attributes);
    return composedShader(keyOf('decode', layout), () => {
      const text = `${withLayout(decode, layout)}\n${codesOf('coded', layout)}`;
      return composed(text, io, ['coded', 'ids'], ['rows'], { coded: 'u32', ids: 'i32' });
    });
  },
  plan({ coded, ids }, attributes, limits) {
    if (!coded || !ids) return [];
    const layout = decodeLayout(attributes);
    const [pages, heads] = coded.shape;
    const total = ids.shape[0] * heads * layout.pageSize * layout.dim;
    const parts = windows(pages * heads, { coded: layout.bytes }, limits);
    return cut(total, { rows: 4 }, limits).flatMap(({ start, count, ranges }) =>
      parts.map((part) => ({
        workgroups: groupsFor(count),
        uniforms: [count, start, pages, heads, part.start, part.count].map(uniform.u32),
        ranges: { ...ranges, ...part.ranges },
      })),
    );
  },
};

function attentionLayouts({ q }: Io, attributes: Attributes): readonly [CodedLayout, CodedLayout] {
  const { kFormat, vFormat, pageSize, valueDim } = attributes;
  return [
    codedLayout(kFormat as KvFormat, 'keys', Number(pageSize), q?.shape[3] ?? 0),
    codedLayout(vFormat as KvFormat, 'values', Number(pageSize), Number(valueDim)),
  ];
}

export const codedAttentionKernel: WebGpuKernel = {
  shader(_, io, attributes) {
    const [keys, values] = attentionLayouts(io, attributes);
    return composedShader(keyOf('coded-attention', keys, values), () => {
      const channelsPerLane = Math.ceil(values.dim / 64);
      const own = codedAttention.replaceAll('VALUE_DIM', `${values.dim}u`);
      const text = [
        withLayout(own, keys),
        attend.replaceAll('ROUNDED', 'false'),
        untiled,
        unbiased,
        codesOf('kPages', keys),
        codesOf('vPages', values),
      ]
        .join('\n')
        .replaceAll('CHANNELS_PER_LANE', `${channelsPerLane}u`)
        .replaceAll('CHANNELS', `${64 * channelsPerLane}u`);
      const types = { kPages: 'u32', vPages: 'u32', table: 'i32', lengths: 'i32' };
      return composed(text, io, ['q', 'kPages', 'vPages', 'table', 'lengths'], ['o', 'lse'], types);
    });
  },
  plan(io, attributes, limits) {
    const { q, kPages, table } = io;
    if (!q || !kPages || !table || sizeOf(q.shape.slice(0, 3)) === 0) return [];
    const [keys, values] = attentionLayouts(io, attributes);
    const [, lengthQ, heads, dim] = q.shape;
    const [pages, kvHeads] = kPages.shape;
    const { pageSize } = keys;
    const split = lengthQ <= splitUpTo;
    const parts = windows(pages * kvHeads, { kPages: keys.bytes, vPages: values.bytes }, limits);
    const results = { shape: [...q.shape.slice(0, 3), values.dim], dtype: 'f32' } as const;
    // Windows after the first go on from what is in o and lse.
    return queryPieces(q, results, 'blhd', limits).flatMap((piece) =>
      parts.map((part) => ({
        entryPoint: split ? 'split' : 'rows',
        workgroups: split ? ([piece.count] as const) : groupsFor(piece.count),
        uniforms: [
          ...[
            ...[piece.count, piece.first, piece.queries, piece.lseFirst, heads, lengthQ, dim, values.dim],
            ...[kvHeads, pageSize, table.shape[1], 0],
            ...[part.start * pageSize, part.count * pageSize, table.shape[1] * pageSize, part.start > 0 ? 1 : 0],
          ].map(uniform.u32),
          ...[attributes['scale'], attributes['softcap']].map(Number).map(uniform.f32),
        ],
        ranges: { ...piece.ranges, ...part.ranges },
      })),
    );
  },
};
