import {
  caseDimension,
  caseTensor,
  defineOp,
  DTypeError,
  formatShape,
  ShapeError,
  type Tensor,
  cut,
  uniform,
} from '@filigree/core-tensor';
import shader from '@filigree/wgsl/sparse-attention/pool-blocks.wgsl';
import { expectArgument, expectIntegers, lengthsOf } from './row-blocks.js';
import { selectionShader } from './shader.js';

/** What a window comes to: a statistic of each channel, its last item, or the mean of the items divided by their norms. */
export const poolModes = ['mean', 'max', 'min', 'absmax', 'last', 'direction'] as const;
export type PoolMode = (typeof poolModes)[number];
/** [pages,H,P,D] with a table, [B,H,L,D], or [B,L,H,D]. */
export const poolLayouts = ['pages', 'bhld', 'blhd'] as const;
export type PoolLayout = (typeof poolLayouts)[number];

/**
 * One row for every window of a sequence's rows: queries or keys of a block by their mean, extremes, or direction.
 *
 * x f32 or f16: keys [pages,H,P,D] (layout `pages`, with table? i32 [B, pages per element]) or queries [B,H,L,D] (`bhld`), [B,L,H,D] (`blhd`)
 * lengths? i32 [B,2]: lenK counts in layout `pages`, lenQ in the others   center? f32 [B,H,D], taken off every row first   y f32 [B,H,N,D]
 *
 * Window n covers rows n·stride … n·stride + block − 1 (stride 0: block), N = ⌈capacity / stride⌉. Means divide by the rows that are there; windows without
 * rows are 0. `direction` is the mean of rows divided by their norms (rows of norm 0 count as 0): its square norm is the mean pairwise cosine of the window.
 */
export const poolBlocksOp = /* @__PURE__ */ defineOp({
  name: 'sparse-attention/pool-blocks',
  inputs: ['x', 'table?', 'lengths?', 'center?'],
  outputs: ['y'],
  attributes: {
    block: { type: 'number' },
    stride: { type: 'number', default: 0 },
    mode: { type: 'enum', values: poolModes, default: 'mean' },
    layout: { type: 'enum', values: poolLayouts, default: 'bhld' },
  },
  infer({ x, table, lengths, center }, { block, stride, layout }) {
    const op = 'pool-blocks';
    if (x.dtype !== 'f32' && x.dtype !== 'f16') throw new DTypeError(`${op}: x is ${x.dtype}, it takes f32 or f16`);
    if (x.shape.length !== 4) throw new ShapeError(`${op}: x is ${formatShape(x.shape)}, it takes four axes`);
    if (table && layout !== 'pages') throw new ShapeError(`${op}: table is given, but layout is ${layout}`);
    expectArgument(op, 'table', table, 'i32', [-1, -1]);
    const { batch, heads, capacity } = poolGeometry(x.shape, table?.shape, layout);
    expectArgument(op, 'lengths', lengths, 'i32', [batch, 2]);
    expectArgument(op, 'center', center, 'f32', [batch, heads, x.shape[3]]);
    expectIntegers(op, { block }, 1);
    expectIntegers(op, { stride }, 0);
    return { y: { shape: [batch, heads, Math.ceil(capacity / (stride || block)), x.shape[3]], dtype: 'f32' } };
  },
  reference({ x, table, lengths, center, y }, { block, stride, mode, layout }) {
    const { batch, heads, capacity, pageSize } = poolGeometry(x.shape, table?.shape, layout);
    const [windows, dim] = [y.shape[2], x.shape[3]];
    const step = stride || block;
    const rowAt = (b: number, head: number, item: number): number => {
      if (layout === 'blhd') return (b * capacity + item) * heads + head;
      const page = table ? table.data[b * table.shape[1] + Math.floor(item / pageSize)] : b;
      return (page * heads + head) * pageSize + (table ? item % pageSize : item);
    };
    for (let b = 0; b < batch; b++) {
      const all = { queries: layout === 'pages' ? Infinity : capacity, keys: layout === 'pages' ? capacity : Infinity };
      const own = lengthsOf('pool-blocks', lengths, b, all);
      const length = layout === 'pages' ? own.keys : own.queries;
      for (let head = 0; head < heads; head++) {
        for (let window = 0; window < windows; window++) {
          const rows: number[][] = [];
          for (let item = window * step; item < Math.min(window * step + block, length); item++) {
            const at = rowAt(b, head, item) * dim;
            rows.push(
              Array.from({ length: dim }, (_, d) => x.data[at + d] - (center?.data[(b * heads + head) * dim + d] ?? 0)),
            );
          }
          const norms = rows.map((row) => (mode === 'direction' ? Math.sqrt(row.reduce((sum, v) => sum + v * v, 0)) : 1));
          for (let d = 0; d < dim; d++) {
            const values = rows.map((row, index) => (norms[index] === 0 ? 0 : row[d] / norms[index]));
            y.data[((b * heads + head) * windows + window) * dim + d] = values.length === 0 ? 0 : pooled(values, mode);
          }
        }
      }
    }
  },
  native: 'sparse_attention_pool_blocks',
  webgpu: {
    shader: (_, io) =>
      selectionShader(
        {
          op: 'sparse-attention/pool-blocks',
          source: shader,
          inputs: [
            ['x', 'half'],
            ['table', 'i32'],
            ['lengths', 'i32'],
            ['center', 'f32'],
          ],
          outputs: [['y', 'f32']],
        },
        io,
      ),
    plan({ x, table }, { block, stride, mode, layout }, limits) {
      if (!x) return [];
      const { batch, heads, capacity, pageSize } = poolGeometry(x.shape, table?.shape, String(layout));
      const step = Number(stride) || Number(block);
      const windows = Math.ceil(capacity / step);
      const dim = x.shape[3];
      const codes = [poolModes.findIndex((name) => name === mode), poolLayouts.findIndex((name) => name === layout)];
      if (dim === 0) return [];
      return cut(batch * heads * windows, { y: 4 * dim }, limits).map(({ start, count, ranges }) => ({
        workgroups: [count] as const,
        uniforms: [
          ...[start, count, windows, heads, dim, capacity, pageSize, table?.shape[1] ?? 1, Number(block), step],
          ...codes,
        ].map(uniform.u32),
        ranges,
      }));
    },
  },
  tolerance: { y: { absolute: 2e-6, relative: 1e-5 } },
  cases: (fc) =>
    fc
      .record({
        batch: fc.constantFrom(0, 1, 1, 2),
        heads: fc.constantFrom(1, 2, 3),
        length: caseDimension(fc, 70),
        dim: fc.constantFrom(1, 2, 8, 15, 16, 34),
        dtype: fc.constantFrom('f32' as const, 'f32' as const, 'f16' as const),
        layout: fc.constantFrom(...poolLayouts),
        paged: fc.boolean(),
        pageSize: fc.constantFrom(4, 16),
        ragged: fc.boolean(),
        centered: fc.boolean(),
      })
      .chain((drawn) => {
        const { batch, heads, dtype, layout, pageSize } = drawn;
        const dim = dtype === 'f16' ? drawn.dim + (drawn.dim % 2) : drawn.dim;
        const paged = drawn.paged && layout === 'pages';
        // x is bound whole, and bindings of the smallest device under test hold 900 numbers.
        const length = Math.min(
          drawn.length,
          Math.floor(900 / (Math.max(1, batch) * heads * dim)) - (paged ? 2 * pageSize : 0),
        );
        const perBatch = Math.max(0, Math.ceil(length / pageSize));
        const capacity = paged ? perBatch * pageSize : length;
        const pages = paged ? batch * perBatch + 1 : batch;
        const shape = layout === 'blhd' ? [batch, capacity, heads, dim] : [pages, heads, paged ? pageSize : capacity, dim];
        return fc.record({
          inputs: fc.record({
            x: caseTensor(fc, shape, { dtype }),
            table: paged
              ? caseTensor(fc, [batch, perBatch], { dtype: 'i32', low: 0, high: pages - 1 })
              : fc.constant(undefined),
            lengths: drawn.ragged
              ? caseTensor(fc, [batch, 2], { dtype: 'i32', low: 0, high: capacity })
              : fc.constant(undefined),
            center: drawn.centered ? caseTensor(fc, [batch, heads, dim]) : fc.constant(undefined),
          }),
          attributes: fc.record({
            block: fc.constantFrom(1, 4, 7, 32),
            stride: fc.constantFrom(0, 0, 3, 16),
            mode: fc.constantFrom(...poolModes),
            layout: fc.constant(layout),
          }),
        });
      }),
});

/** Sizes that the layout of x gives. */
export function poolGeometry(
  x: readonly number[],
  table: readonly number[] | undefined,
  layout: string,
): { batch: number; heads: number; capacity: number; pageSize: number } {
  if (layout === 'blhd') return { batch: x[0], heads: x[2], capacity: x[1], pageSize: x[1] };
  return { batch: table ? table[0] : x[0], heads: x[1], capacity: table ? table[1] * x[2] : x[2], pageSize: x[2] };
}

function pooled(values: readonly number[], mode: PoolMode): number {
  switch (mode) {
    case 'max':
      return values.reduce((a, b) => (b > a ? b : a), -Infinity);
    case 'min':
      return values.reduce((a, b) => (b < a ? b : a), Infinity);
    case 'absmax':
      return values.reduce((a, b) => (Math.abs(b) > a ? Math.abs(b) : a), 0);
    case 'last':
      return values[values.length - 1];
    default:
      return values.reduce((a, b) => a + b, 0) / values.length;
  }
}

export interface PoolBlocksOptions {
  readonly block: number;
  /** Default `block`. */
  readonly stride?: number | undefined;
  readonly mode?: PoolMode | undefined;
  readonly layout?: PoolLayout | undefined;
  readonly table?: Tensor | undefined;
  readonly lengths?: Tensor | undefined;
  readonly center?: Tensor | undefined;
}

/** Windows of rows, one row each; see {@link poolBlocksOp}. */
export function poolBlocks(x: Tensor, { table, lengths, center, ...attributes }: PoolBlocksOptions): Tensor {
  return poolBlocksOp({ x, table, lengths, center }, attributes).y;
}
