import { defineOp, Random, type OpCase, type Tensor, cut, uniform } from '@filigree/core-tensor';
import shader from '@filigree/wgsl/sparse-attention/selection-indices.wgsl';
import { expectArgument, expectIntegers, hasBit, lengthsOf } from './row-blocks.js';
import { randomBits } from './lower-cases.js';
import { selectionShader } from './shader.js';

/**
 * Bits of a selection → the key lists that gather-attention reads.
 *
 * bits u32 [B,H,Lq,W]: bit c stands for keys c·unit … (c+1)·unit − 1   lengths? i32 [B,2]   indices i32 [B,H,Lq,slots], ascending, −1 behind the last
 * cells f32 [B,H,Lq]: how many there are
 *
 * Row i is query i, at position lenK − lenQ + i; keys behind it are left out, and so are those that find no slot. Queries beyond lenQ have none. Without
 * `lengths` there are Lq queries and `lengthK` keys (−1: as many as there are bits for).
 */
export const selectionIndicesOp = /* @__PURE__ */ defineOp({
  name: 'sparse-attention/selection-indices',
  inputs: ['bits', 'lengths?'],
  outputs: ['indices', 'cells'],
  attributes: {
    unit: { type: 'number', default: 1 },
    slots: { type: 'number' },
    lengthK: { type: 'number', default: -1 },
  },
  infer({ bits, lengths }, { unit, slots, lengthK }) {
    const op = 'selection-indices';
    expectArgument(op, 'bits', bits, 'u32', [-1, -1, -1, -1]);
    expectArgument(op, 'lengths', lengths, 'i32', [bits.shape[0], 2]);
    expectIntegers(op, { unit }, 1);
    expectIntegers(op, { slots }, 0);
    expectIntegers(op, { lengthK }, -1);
    const rows = bits.shape.slice(0, 3);
    return { indices: { shape: [...rows, slots], dtype: 'i32' }, cells: { shape: rows, dtype: 'f32' } };
  },
  reference({ bits, lengths, indices, cells }, { unit, slots, lengthK }) {
    const [batches, heads, rows, words] = bits.shape;
    indices.data.fill(-1);
    for (let batch = 0; batch < batches; batch++) {
      const most = 32 * words * unit;
      const all = { queries: rows, keys: lengthK < 0 ? most : Math.min(lengthK, most) };
      const length = lengthsOf('selection-indices', lengths, batch, { queries: rows, keys: lengths ? most : all.keys });
      for (let row = 0; row < heads * rows; row++) {
        const at = batch * heads * rows + row;
        const query = row % rows;
        const limit = query < length.queries ? length.keys - length.queries + query + 1 : 0;
        let count = 0;
        for (let key = 0; key < limit && count < slots; key++)
          if (hasBit(bits.data, at * words, Math.floor(key / unit))) indices.data[at * slots + count++] = key;
        cells.data[at] = count;
      }
    }
  },
  native: 'sparse_attention_selection_indices',
  webgpu: {
    shader: (_, io) =>
      selectionShader(
        {
          op: 'sparse-attention/selection-indices',
          source: shader,
          inputs: [
            ['bits', 'u32'],
            ['lengths', 'i32'],
          ],
          outputs: [
            ['indices', 'i32'],
            ['cells', 'f32'],
          ],
        },
        io,
      ),
    plan({ bits }, { unit, slots, lengthK }, limits) {
      if (!bits) return [];
      const [batch, heads, rows, words] = bits.shape;
      const most = 32 * words * Number(unit);
      const length = Number(lengthK) < 0 ? most : Math.min(most, Number(lengthK));
      const perRow = { bits: 4 * words, indices: 4 * Number(slots), cells: 4 };
      return cut(batch * heads * rows, perRow, limits).map(({ start, count, ranges }) => ({
        workgroups: [count] as const,
        uniforms: [start, count, rows, heads * rows, words, Number(unit), Number(slots), length].map(uniform.u32),
        ranges,
      }));
    },
  },
  cases: (fc) =>
    fc
      .record({
        seed: fc.nat(0x7fffffff),
        batch: fc.constantFrom(0, 1, 1, 2),
        heads: fc.constantFrom(1, 2, 3),
        rows: fc.constantFrom(1, 1, 3),
        bits: fc.nat(90),
        dense: fc.boolean(),
        ragged: fc.boolean(),
        unit: fc.constantFrom(1, 1, 4, 16),
        slots: fc.constantFrom(0, 1, 9, 40),
        short: fc.boolean(),
      })
      .map(({ seed, batch, heads, rows, bits, dense, ragged, unit, slots, short }): OpCase => {
        const random = new Random(seed);
        const lengths = Int32Array.from({ length: 2 * batch }, (_, index) =>
          random.nextInt(1 + (index % 2 ? bits * unit : rows)),
        );
        return {
          inputs: {
            bits: randomBits(random, [batch, heads, rows], bits, dense),
            lengths: ragged ? { shape: [batch, 2], dtype: 'i32', data: lengths } : undefined,
          },
          attributes: { unit, slots, lengthK: short ? Math.floor((bits * unit) / 2) : -1 },
        };
      }),
});

export interface SelectionIndicesOptions {
  /** Keys per bit. */
  readonly unit?: number | undefined;
  /** Keys per query that there is room for. */
  readonly slots: number;
  readonly lengthK?: number | undefined;
  readonly lengths?: Tensor | undefined;
}

/** Key lists from bits; see {@link selectionIndicesOp}. */
export function selectionIndices(
  bits: Tensor,
  { lengths, ...attributes }: SelectionIndicesOptions,
): { indices: Tensor; cells: Tensor } {
  return selectionIndicesOp({ bits, lengths }, attributes);
}
