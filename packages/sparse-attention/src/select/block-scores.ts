import { caseTensor, defineOp, ShapeError, type Tensor, cut, uniform } from '@filigree/core-tensor';
import shader from '@filigree/wgsl/sparse-attention/block-scores.wgsl';
import { hidden } from './geometry.js';
import { expectArgument, expectHeads, expectIntegers, kvHeadOf, lengthsOf, visibleBlocks } from './row-blocks.js';
import { selectionShader } from './shader.js';

/**
 * Scores of every block of queries with every block of keys, from one row each: scale · qc kcᵀ over the key blocks that the row block sees, by softmax.
 *
 * qc f32 [B,Hq,R,D]   kc f32 [B,Hk,C,D]   keep? f32 [B,Hk,C]   lengths? i32 [B,2]   kvMap? i32 [Hq]   y f32 [B,Hq,R,C]
 *
 * Block c is visible to row block r iff the last query of r, at lenK − lenQ + min((r+1)·blockQ, lenQ) − 1, sees its first key c·blockK. Without `lengths` there
 * are R·blockQ queries and C·blockK keys. Hidden blocks, and those with keep = 0, have no part in the softmax and score 0, or −1e30 without softmax.
 */
export const blockScoresOp = /* @__PURE__ */ defineOp({
  name: 'sparse-attention/block-scores',
  inputs: ['qc', 'kc', 'keep?', 'lengths?', 'kvMap?'],
  outputs: ['y'],
  attributes: {
    scale: { type: 'number' },
    blockQ: { type: 'number' },
    blockK: { type: 'number' },
    softmax: { type: 'boolean', default: true },
  },
  infer({ qc, kc, keep, lengths, kvMap }, { blockQ, blockK }) {
    const op = 'block-scores';
    expectArgument(op, 'qc', qc, 'f32', [-1, -1, -1, -1]);
    const [batch, heads, rows, dim] = qc.shape;
    expectArgument(op, 'kc', kc, 'f32', [batch, -1, -1, dim]);
    const [, kvHeads, columns] = kc.shape;
    expectArgument(op, 'keep', keep, 'f32', [batch, kvHeads, columns]);
    expectArgument(op, 'lengths', lengths, 'i32', [batch, 2]);
    expectHeads(op, heads, kvHeads, kvMap);
    expectIntegers(op, { blockQ, blockK }, 1);
    if (dim > 1024) throw new ShapeError(`${op}: rows of ${dim} channels are not supported, 1024 are`);
    return { y: { shape: [batch, heads, rows, columns], dtype: 'f32' } };
  },
  reference({ qc, kc, keep, lengths, kvMap, y }, { scale, blockQ, blockK, softmax }) {
    const [batches, heads, rows, dim] = qc.shape;
    const [, kvHeads, columns] = kc.shape;
    for (let batch = 0; batch < batches; batch++) {
      const length = lengthsOf('block-scores', lengths, batch, { queries: rows * blockQ, keys: columns * blockK });
      for (let head = 0; head < heads; head++) {
        const kvHead = batch * kvHeads + kvHeadOf(kvMap, head, heads, kvHeads);
        for (let row = 0; row < rows; row++) {
          const at = (batch * heads + head) * rows + row;
          const visible = visibleBlocks(row, blockQ, blockK, length);
          const scores = Array.from({ length: columns }, (_, column) => {
            if (column >= visible || keep?.data[kvHead * columns + column] === 0) return undefined;
            let dot = 0;
            for (let d = 0; d < dim; d++) dot += qc.data[at * dim + d] * kc.data[(kvHead * columns + column) * dim + d];
            return scale * dot;
          });
          const seen = scores.filter((score) => score !== undefined);
          const largest = seen.reduce((a, b) => Math.max(a, b), -Infinity);
          const sum = seen.reduce((total, score) => total + Math.exp(score - largest), 0);
          for (const [column, score] of scores.entries()) {
            const without = softmax ? 0 : hidden;
            y.data[at * columns + column] = score === undefined ? without : softmax ? Math.exp(score - largest) / sum : score;
          }
        }
      }
    }
  },
  native: 'sparse_attention_block_scores',
  webgpu: {
    shader: (_, io) =>
      selectionShader(
        {
          op: 'sparse-attention/block-scores',
          source: shader,
          inputs: [
            ['qc', 'f32'],
            ['kc', 'f32'],
            ['keep', 'f32'],
            ['lengths', 'i32'],
            ['kvMap', 'i32'],
          ],
          outputs: [['y', 'f32']],
        },
        io,
      ),
    plan({ qc, kc }, { scale, blockQ, blockK, softmax }, limits) {
      if (!qc || !kc || kc.shape[2] === 0) return [];
      const [batch, heads, rows, dim] = qc.shape;
      const [, kvHeads, columns] = kc.shape;
      return cut(batch * heads * rows, { qc: 4 * dim, y: 4 * columns }, limits).map(({ start, count, ranges }) => ({
        workgroups: [count] as const,
        uniforms: [
          ...[start, count, heads, kvHeads, rows, columns, dim, Number(blockQ), Number(blockK), softmax ? 1 : 0].map(
            uniform.u32,
          ),
          uniform.f32(Number(scale)),
        ],
        ranges,
      }));
    },
  },
  tolerance: { y: { absolute: 2e-5, relative: 2e-4 } },
  cases: (fc) =>
    fc
      .record({
        batch: fc.constantFrom(0, 1, 1, 2),
        kvHeads: fc.constantFrom(1, 2),
        group: fc.constantFrom(1, 2, 3),
        rows: fc.oneof(fc.constant(1), fc.nat(9)),
        columns: fc.oneof(fc.constant(1), fc.nat(40)),
        // kc is bound whole, and bindings of the smallest device under test hold 900 numbers.
        dim: fc.constantFrom(1, 3, 5),
        blockQ: fc.constantFrom(1, 4, 64),
        blockK: fc.constantFrom(1, 4, 32),
        ragged: fc.boolean(),
        kept: fc.boolean(),
        mapped: fc.boolean(),
      })
      .chain(({ batch, kvHeads, group, rows, columns, dim, blockQ, blockK, ragged, kept, mapped }) =>
        fc.record({
          inputs: fc.record({
            qc: caseTensor(fc, [batch, kvHeads * group, rows, dim]),
            kc: caseTensor(fc, [batch, kvHeads, columns, dim]).map(moderate),
            keep: kept
              ? caseTensor(fc, [batch, kvHeads, columns], { dtype: 'i32', low: 0, high: 2 }).map(({ shape, data }) => ({
                  shape,
                  dtype: 'f32' as const,
                  data: Float32Array.from(data),
                }))
              : fc.constant(undefined),
            lengths: ragged
              ? fc
                  .array(fc.tuple(fc.nat(rows * blockQ), fc.nat(columns * blockK)), { minLength: batch, maxLength: batch })
                  .map((pairs) => ({ shape: [batch, 2], dtype: 'i32' as const, data: Int32Array.from(pairs.flat()) }))
              : fc.constant(undefined),
            kvMap: mapped
              ? caseTensor(fc, [kvHeads * group], { dtype: 'i32', low: 0, high: kvHeads - 1 })
              : fc.constant(undefined),
          }),
          attributes: fc.record({
            scale: fc.constant(1 / Math.sqrt(dim)),
            blockQ: fc.constant(blockQ),
            blockK: fc.constant(blockK),
            softmax: fc.boolean(),
          }),
        }),
      ),
});

/** Scores of thousands lose the digits of their exponentials on every path. */
function moderate<T extends { data: { [index: number]: number; length: number } }>(tensor: T): T {
  for (let index = 0; index < tensor.data.length; index++) tensor.data[index] = Math.max(-4, Math.min(4, tensor.data[index]));
  return tensor;
}

export interface BlockScoresOptions {
  readonly blockQ: number;
  readonly blockK: number;
  /** Default 1/√D. */
  readonly scale?: number | undefined;
  readonly softmax?: boolean | undefined;
  readonly keep?: Tensor | undefined;
  readonly lengths?: Tensor | undefined;
  readonly kvMap?: Tensor | undefined;
}

/** Scores of blocks of queries with blocks of keys; see {@link blockScoresOp}. */
export function blockScores(qc: Tensor, kc: Tensor, options: BlockScoresOptions): Tensor {
  const { keep, lengths, kvMap, scale = 1 / Math.sqrt(qc.shape[3]), ...attributes } = options;
  return blockScoresOp({ qc, kc, keep, lengths, kvMap }, { scale, ...attributes }).y;
}
