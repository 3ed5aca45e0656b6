import {
  caseTensor,
  cut,
  defineOp,
  DTypeError,
  formatShape,
  groupsFor,
  OptionError,
  ShapeError,
  sizeOf,
  uniform,
  type Piece,
  type Tensor,
  type WebGpuDispatch,
} from '@filigree/core-tensor';
import { centredCase } from './centred-case.js';
import { dot, expectPositive, hidden, withPlacement, selectionGeometry, selectionShape } from './geometry.js';
import shader from '@filigree/wgsl/sparse-attention/quant-dot.wgsl';
import { commonWords, selectionShader } from './webgpu.js';
import { keyCapacity } from '../ops/check.js';

/**
 * Low-bit estimates of scores, block by block: y = max over the visible cells of a block of (estimated score − limit of the query).
 *
 * q [B,Hq,Lq,D] or [B,Lq,Hq,D] f32   k [pages,Hk,P,D] f32 or f16   limit [B,Hq,Lq] f32   table i32 [B,pages per element]   lengths i32 [B,2]
 * kvMap i32 [Hq]   y [B,Hq,R,C] f32 with R = ceil(Lq / blockQ), C = ceil(capacity / blockK); −1e30 where nothing is visible
 *
 * q̃ = q − mean of q over the call's lenQ queries, k̃ = k − mean of k over lenK keys. Each row of q̃ and k̃ becomes whole numbers of ±7 (bits 4) or ±127
 * (bits 8) times a step, the largest magnitude over 7 or 127. Estimate: scale · (step_q · step_k · codes_q · codes_k + mean(q) · k̃ + q · mean(k)); the two
 * corrections are not quantised, so its error is that of q̃ · k̃: at most scale · ½·(step_q·‖k̃‖₁ + step_k·‖q̃‖₁) + scale · ¼·D·step_q·step_k.
 * Estimates that are not finite count as not visible.
 *
 * Ji et al., "SALE: Low-bit Estimation for Efficient Sparse Attention in Long-context LLM Prefilling", arXiv:2505.24179.
 */
export const quantDotOp = /* @__PURE__ */ defineOp({
  name: 'sparse-attention/quant-dot',
  inputs: ['q', 'k', 'limit', 'table?', 'lengths?', 'kvMap?'],
  outputs: ['y'],
  attributes: /* @__PURE__ */ withPlacement({
    scale: { type: 'number' },
    bits: { type: 'number', default: 4 },
    blockQ: { type: 'number', default: 64 },
    blockK: { type: 'number', default: 32 },
  }),
  dynamic: ['lengthK'],
  infer({ limit, ...inputs }, attributes) {
    const { bits, blockQ, blockK } = attributes;
    const { batch, heads, lengthQ, capacity } = selectionShape('quant-dot', inputs, attributes);
    expectPositive('quant-dot', { blockQ, blockK });
    if (bits !== 4 && bits !== 8) throw new OptionError(`quant-dot: bits is ${bits}, it takes 4 or 8`);
    if (limit.dtype !== 'f32') throw new DTypeError(`quant-dot: limit is ${limit.dtype}, it takes f32`);
    if (limit.shape.join() !== `${batch},${heads},${lengthQ}`)
      throw new ShapeError(`quant-dot: limit is ${formatShape(limit.shape)}, it takes [${batch}, ${heads}, ${lengthQ}]`);
    return { y: { shape: [batch, heads, Math.ceil(lengthQ / blockQ), Math.ceil(capacity / blockK)], dtype: 'f32' } };
  },
  reference(io, attributes) {
    const { scale, bits, blockQ, blockK } = attributes;
    const levels = bits === 4 ? 7 : 127;
    const geometry = selectionGeometry('quant-dot', io, attributes);
    const { heads, lengthQ, dim } = geometry;
    const [, , rows, columns] = io.y.shape;
    io.y.data.fill(hidden);
    for (let batch = 0; batch < geometry.batch; batch++) {
      const { lenQ, lenK } = geometry.elements[batch];
      for (let head = 0; head < heads; head++) {
        const keys = Array.from({ length: lenK }, (_, at) => geometry.key(batch, geometry.kvHead(head), at));
        const queries = Array.from({ length: lenQ }, (_, at) => geometry.query(batch, head, at));
        const [meanQ, meanK] = [mean(queries, dim), mean(keys, dim)];
        const coded = keys.map((key) => quantize(key, meanK, levels));
        for (const [query, row] of queries.entries()) {
          const own = quantize(row, meanQ, levels);
          const offset = dot(row, meanK);
          const at = ((batch * heads + head) * rows + Math.floor(query / blockQ)) * columns;
          for (let position = 0; position <= lenK - lenQ + query; position++) {
            const key = coded[position];
            const product = own.step * key.step * dot(own.codes, key.codes) + dot(meanQ, key.centred) + offset;
            const above = scale * product - io.limit.data[(batch * heads + head) * lengthQ + query];
            const cell = at + Math.floor(position / blockK);
            if (Number.isFinite(above) && above > io.y.data[cell]) io.y.data[cell] = above;
          }
        }
      }
    }
  },
  native: 'sparse_attention_quant_dot',
  webgpu: {
    shader: (_, io) =>
      selectionShader(
        {
          op: 'sparse-attention/quant-dot',
          source: shader,
          inputs: ['q', 'k', 'limit', 'table', 'lengths', 'kvMap'],
          outputs: { y: 'f32' },
          pages: ['k'],
          scratch: 'u32',
          extra: {
            rows: 'u32',
            first_row: 'u32',
            columns: 'u32',
            row_blocks: 'u32',
            element: 'u32',
            quads: 'u32',
            block_q: 'u32',
            block_k: 'u32',
            scale: 'f32',
            levels: 'f32',
          },
        },
        io,
      ),
    scratch: ({ q, k, table, limit, y }) => {
      if (!q || !k || !limit || !y || sizeOf(y.shape) === 0) return 0;
      const [, heads, lengthQ] = limit.shape;
      const [kvHeads, capacity, dim] = [k.shape[1], keyCapacity(k, table), q.shape[3]];
      const quads = Math.ceil(dim / 4);
      const [queries, keys] = [heads * lengthQ, kvHeads * capacity];
      return 4 * ((heads + kvHeads) * dim + queries * (2 + quads) + keys * (1 + quads) + heads * capacity);
    },
    plan({ q, k, table, limit, y }, { scale, bits, blockQ, blockK, ...attributes }, limits) {
      if (!q || !k || !limit || !y || sizeOf(y.shape) === 0) return [];
      const [batch, heads, rows, columns] = y.shape;
      const [kvHeads, capacity, dim] = [k.shape[1], keyCapacity(k, table), q.shape[3]];
      return Array.from({ length: batch }, (_, element) => element).flatMap((element) => {
        const pieces = cut(heads * rows, { y: 4 * columns }, limits).map((piece) => {
          const byteOffset = 4 * columns * (element * heads * rows + piece.start);
          return { ...piece, ranges: { y: { byteOffset, byteLength: 4 * columns * piece.count } } };
        });
        const dispatch = (entryPoint: string, invocations: number, piece: Piece): WebGpuDispatch => ({
          entryPoint,
          workgroups: groupsFor(invocations),
          uniforms: [
            ...commonWords(q, k, table, attributes),
            ...[piece.count, piece.start, columns, rows, element, Math.ceil(dim / 4)].map(uniform.u32),
            ...[Number(blockQ), Number(blockK)].map(uniform.u32),
            ...[Number(scale), bits === 4 ? 7 : 127].map(uniform.f32),
          ],
          ranges: piece.ranges,
        });
        return [
          dispatch('means', (heads + kvHeads) * dim, pieces[0]),
          dispatch('codes', heads * limit.shape[2] + kvHeads * capacity + heads * capacity, pieces[0]),
          ...pieces.map((piece) => dispatch('blocks', piece.count * columns, piece)),
        ];
      });
    },
  },
  tolerance: { y: { absolute: 2e-3, relative: 1e-5 } },
  cases: (fc) =>
    centredCase(fc).chain(({ batch, heads, lengthQ, dim, queryLayout, lengthK, inputs }) =>
      fc.record({
        inputs: fc.record({ ...inputs, limit: caseTensor(fc, [batch, heads, lengthQ]) }),
        attributes: fc.record({
          scale: fc.constant(1 / Math.sqrt(dim)),
          bits: fc.constantFrom(4, 8),
          blockQ: fc.constantFrom(1, 5, 16, 64),
          blockK: fc.constantFrom(1, 7, 16, 32),
          queryLayout: fc.constant(queryLayout),
          lengthK: fc.constant(lengthK),
        }),
      }),
    ),
});

function mean(rows: readonly ArrayLike<number>[], dim: number): number[] {
  const sum = Array<number>(dim).fill(0);
  for (const row of rows) for (let channel = 0; channel < dim; channel++) sum[channel] += row[channel];
  return sum.map((value) => value / rows.length);
}

interface QuantizedRow {
  readonly centred: readonly number[];
  readonly codes: readonly number[];
  readonly step: number;
}

/** Row − mean in whole numbers of at most ±levels times a step. */
function quantize(row: ArrayLike<number>, average: readonly number[], levels: number): QuantizedRow {
  const centred = average.map((value, channel) => row[channel] - value);
  const largest = centred.reduce((most, value) => (Math.abs(value) > most ? Math.abs(value) : most), 0);
  const step = largest / levels;
  return { centred, step, codes: centred.map((value) => (step === 0 ? 0 : Math.round(value / step))) };
}

/** Low-bit estimates of scores − limit, the largest of each block, y [B,Hq,R,C]; see {@link quantDotOp}. */
export function quantDot(
  q: Tensor,
  k: Tensor,
  limit: Tensor,
  options: {
    readonly table?: Tensor | undefined;
    readonly lengths?: Tensor | undefined;
    readonly kvMap?: Tensor | undefined;
    readonly scale?: number | undefined;
    readonly bits?: 4 | 8 | undefined;
    readonly blockQ?: number | undefined;
    readonly blockK?: number | undefined;
    readonly queryLayout?: 'bhld' | 'blhd' | undefined;
    readonly lengthK?: number | undefined;
  } = {},
): Tensor {
  const { table, lengths, kvMap, scale = 1 / Math.sqrt(q.shape[3]), ...rest } = options;
  return quantDotOp({ q, k, limit, table, lengths, kvMap }, { scale, ...rest }).y;
}
