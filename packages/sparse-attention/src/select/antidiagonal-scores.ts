import { cut, defineOp, groupsFor, OptionError, sizeOf, uniform, type Tensor, type UniformWord } from '@filigree/core-tensor';
import { selectionCase } from './cases.js';
import { expectPositive, withPlacement, selectionGeometry, selectionShape, type SelectionGeometry } from './geometry.js';
import shader from '@filigree/wgsl/sparse-attention/antidiagonal-scores.wgsl';
import { commonWords, selectionShader } from './webgpu.js';

/**
 * Mass of blocks, estimated from antidiagonals: attention between strided rows and columns, summed over the cells of a block.
 *
 * q [B,Hq,Lq,D] or [B,Lq,Hq,D] f32   k [pages,Hk,P,D] f32 or f16   table i32 [B,pages per element]   lengths i32 [B,2]   kvMap i32 [Hq]
 * y [B,Hq,R,C] f32 with R = ceil(Lq / block), C = ceil(capacity / block)
 *
 * Strided row r holds the queries rS … rS+S−1 of the call, strided column c the keys cS … cS+S−1 of the cache; what is beyond lenQ or lenK counts as 0.
 * A_rc = scale/S · Σ_s q[rS+S−1−s] · k[cS+s]: the sum along one antidiagonal of the S × S cell. Row r sees column c when the first key of c is not after the
 * last query of r. Softmax over the columns of a row, then the sum over the (block/S)² cells of a block: a row of y sums to the strided rows of its block.
 * 2·Hq·Lq·lenK·D/S operations (causal: half); scratch of one panel of strided rows.
 *
 * Xu et al., "XAttention: Block Sparse Attention with Antidiagonal Scoring", arXiv:2503.16428.
 */
export const antidiagonalScoresOp = /* @__PURE__ */ defineOp({
  name: 'sparse-attention/antidiagonal-scores',
  inputs: ['q', 'k', 'table?', 'lengths?', 'kvMap?'],
  outputs: ['y'],
  attributes: /* @__PURE__ */ withPlacement({
    scale: { type: 'number' },
    stride: { type: 'number', default: 8 },
    block: { type: 'number', default: 128 },
  }),
  dynamic: ['lengthK'],
  infer(inputs, attributes) {
    const { stride, block } = attributes;
    const { batch, heads, lengthQ, capacity } = selectionShape('antidiagonal-scores', inputs, attributes);
    expectPositive('antidiagonal-scores', { stride, block });
    if (block % stride !== 0)
      throw new OptionError(`antidiagonal-scores: block is ${block}, it must be a multiple of stride, ${stride}`);
    return { y: { shape: [batch, heads, Math.ceil(lengthQ / block), Math.ceil(capacity / block)], dtype: 'f32' } };
  },
  reference(io, attributes) {
    const { scale, stride, block } = attributes;
    const geometry = selectionGeometry('antidiagonal-scores', io, attributes);
    const [, , rows, columns] = io.y.shape;
    for (let batch = 0; batch < geometry.batch; batch++) {
      const { lenQ, lenK } = geometry.elements[batch];
      for (let head = 0; head < geometry.heads; head++) {
        for (let row = 0; row * stride < lenQ; row++) {
          const last = lenK - lenQ + Math.min((row + 1) * stride, lenQ) - 1;
          const scores: number[] = [];
          for (let column = 0; column * stride <= last; column++)
            scores.push((scale / stride) * antidiagonal(geometry, batch, head, row * stride, column * stride, stride));
          const largest = scores.reduce((a, b) => (b > a ? b : a), -Infinity);
          const weights = scores.map((score) => Math.exp(score - largest));
          const sum = weights.reduce((a, b) => a + b, 0);
          const at = ((batch * geometry.heads + head) * rows + Math.floor((row * stride) / block)) * columns;
          for (const [column, weight] of weights.entries())
            io.y.data[at + Math.floor((column * stride) / block)] += weight / sum;
        }
      }
    }
  },
  native: 'sparse_attention_antidiagonal_scores',
  webgpu: {
    shader: (_, io) =>
      selectionShader(
        {
          op: 'sparse-attention/antidiagonal-scores',
          source: shader,
          inputs: ['q', 'k', 'table', 'lengths', 'kvMap'],
          outputs: { y: 'f32' },
          pages: ['k'],
          scratch: 'f32',
          extra: {
            rows: 'u32',
            first_row: 'u32',
            columns: 'u32',
            row_blocks: 'u32',
            stride: 'u32',
            per_block: 'u32',
            strided: 'u32',
            scale: 'f32',
          },
        },
        io,
      ),
    scratch: ({ q, y }, { stride, queryLayout }) => {
      if (!q || !y || sizeOf(y.shape) === 0) return 0;
      return 8 * y.shape[0] * y.shape[1] * Math.ceil(q.shape[queryLayout === 'bhld' ? 2 : 1] / Number(stride));
    },
    plan({ q, k, table, y }, { scale, stride, block, ...attributes }, limits) {
      if (!q || !k || !y || sizeOf(y.shape) === 0) return [];
      const [batch, heads, rows, columns] = y.shape;
      const strided = Math.ceil(q.shape[attributes['queryLayout'] === 'bhld' ? 2 : 1] / Number(stride));
      const words = (piece: { start: number; count: number }): UniformWord[] => [
        ...commonWords(q, k, table, attributes),
        ...[piece.count, piece.start, columns, rows, Number(stride), Number(block) / Number(stride), strided].map(uniform.u32),
        uniform.f32(Number(scale)),
      ];
      const pieces = cut(batch * heads * rows, { y: 4 * columns }, limits);
      return [
        {
          entryPoint: 'rows',
          workgroups: groupsFor(batch * heads * strided),
          uniforms: words(pieces[0]),
          ranges: pieces[0].ranges,
        },
        ...pieces.map((piece) => ({
          entryPoint: 'blocks',
          workgroups: groupsFor(piece.count * columns),
          uniforms: words(piece),
          ranges: piece.ranges,
        })),
      ];
    },
  },
  tolerance: { y: { absolute: 2e-3, relative: 1e-3 } },
  cases: (fc) =>
    selectionCase(fc, true).chain(({ inputs, queryLayout, dim, lengthK }) =>
      fc.constantFrom([1, 1], [2, 8], [4, 16], [8, 16], [8, 64], [16, 16]).chain(([stride, block]) =>
        fc.record({
          inputs: fc.record(inputs),
          attributes: fc.record({
            scale: fc.constant(1 / Math.sqrt(dim)),
            stride: fc.constant(stride),
            block: fc.constant(block),
            queryLayout: fc.constant(queryLayout),
            lengthK: fc.constantFrom(-1, lengthK),
          }),
        }),
      ),
    ),
});

/** Σ_s q[first query + S − 1 − s] · k[first key + s], over those that exist. */
function antidiagonal(
  geometry: SelectionGeometry,
  batch: number,
  head: number,
  firstQuery: number,
  firstKey: number,
  stride: number,
): number {
  const { lenQ, lenK } = geometry.elements[batch];
  let sum = 0;
  for (let step = 0; step < stride; step++) {
    const [query, position] = [firstQuery + stride - 1 - step, firstKey + step];
    // What is not there is 0, and a NaN it meets stays NaN.
    const q = query < lenQ ? geometry.query(batch, head, query) : undefined;
    const k = position < lenK ? geometry.key(batch, geometry.kvHead(head), position) : undefined;
    for (let channel = 0; channel < geometry.dim; channel++) sum += (q?.[channel] ?? 0) * (k?.[channel] ?? 0);
  }
  return sum;
}

export interface AntidiagonalOptions {
  readonly table?: Tensor | undefined;
  readonly lengths?: Tensor | undefined;
  readonly kvMap?: Tensor | undefined;
  /** Default 1/√D. */
  readonly scale?: number | undefined;
  readonly stride?: number | undefined;
  readonly block?: number | undefined;
  readonly queryLayout?: 'bhld' | 'blhd' | undefined;
  readonly lengthK?: number | undefined;
}

/** Estimated mass of every block of keys, y [B,Hq,R,C]; see {@link antidiagonalScoresOp}. */
export function antidiagonalScores(q: Tensor, k: Tensor, options: AntidiagonalOptions = {}): Tensor {
  const { table, lengths, kvMap, scale = 1 / Math.sqrt(q.shape[3]), ...rest } = options;
  return antidiagonalScoresOp({ q, k, table, lengths, kvMap }, { scale, ...rest }).y;
}
