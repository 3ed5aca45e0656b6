import shader from '@filigree/wgsl/core/gather-rows.wgsl';
import { caseTensor } from '../cases.js';
import { byteSize } from '../dtype.js';
import { ExecutionError } from '../errors.js';
import { defineOp } from '../op.js';
import { sizeOf } from '../shape.js';
import type { Tensor } from '../tensor.js';
import { expectDType, expectRank } from './check.js';
import { cut, groupsFor, u32, wordMultiple } from './plan.js';
import { sourceWindows } from './strided-copy.js';

/** Ids are data: a bad one fails the op when it runs, and so poisons y. On WebGPU it gives a row of zeros. */
export function checkIds(op: string, ids: ArrayLike<number>, rows: number): void {
  for (let index = 0; index < ids.length; index++) {
    if (ids[index] < 0 || ids[index] >= rows)
      throw new ExecutionError(`${op}: id ${ids[index]} is outside of a table of ${rows} rows`);
  }
}

/**
 * y[i] = table[ids[i]]. table [V, ...] of any dtype, ids [T] i32, y [T, ...]: an embedding lookup. Moves 2·bytes(y).
 */
export const gatherRowsOp = /* @__PURE__ */ defineOp({
  name: 'core/gather-rows',
  inputs: ['table', 'ids'],
  outputs: ['y'],
  attributes: {},
  infer({ table, ids }) {
    expectDType('gather-rows', 'ids', ids, 'i32');
    expectRank('gather-rows', 'ids', ids, 1, '[rows]');
    if (table.shape.length === 0) expectRank('gather-rows', 'table', table, 2, '[rows, ...]');
    return { y: { shape: [ids.shape[0], ...table.shape.slice(1)], dtype: table.dtype } };
  },
  reference({ table, ids, y }) {
    checkIds('gather-rows', ids.data, table.shape[0]);
    const width = sizeOf(table.shape.slice(1));
    for (let row = 0; row < ids.data.length; row++) {
      for (let column = 0; column < width; column++) y.data[row * width + column] = table.data[ids.data[row] * width + column];
    }
  },
  native: 'core_gather_rows',
  webgpu: {
    shader: () => shader,
    plan({ table, y }, _, limits) {
      if (!table || !y) return [];
      const size = byteSize(table.dtype);
      const width = sizeOf(table.shape.slice(1));
      return cut(sizeOf(y.shape), { y: size }, limits, wordMultiple).flatMap(({ start, count, ranges }) => {
        const [firstRow, lastRow] = [Math.floor(start / width), Math.floor((start + count - 1) / width)];
        const words = Math.ceil((count * size) / 4);
        return sourceWindows(0, sizeOf(table.shape), size, limits).map((window) => ({
          workgroups: groupsFor(words),
          uniforms: [words, table.shape[0], width, size, count, start % width, window.start, window.count].map(u32),
          ranges: {
            ...ranges,
            ids: { byteOffset: 4 * firstRow, byteLength: 4 * (lastRow + 1 - firstRow) },
            table: { byteOffset: window.start * size, byteLength: window.count * size },
          },
        }));
      });
    },
  },
  cases: (fc) =>
    fc
      .record({
        rows: fc.integer({ min: 1, max: 20 }),
        width: fc.nat(33),
        count: fc.nat(9),
        dtype: fc.constantFrom('f32' as const, 'f16' as const, 'u8' as const, 'i32' as const),
      })
      .chain(({ rows, width, count, dtype }) =>
        fc.record({
          inputs: fc.record({
            table: caseTensor(fc, [rows, width], dtype === 'u8' ? { dtype, low: 0, high: 255 } : { dtype }),
            ids: caseTensor(fc, [count], { dtype: 'i32', low: 0, high: rows - 1 }),
          }),
          attributes: fc.constant({}),
        }),
      ),
});

/** Rows of a table by id. */
export function gatherRows(table: Tensor, ids: Tensor): Tensor {
  return gatherRowsOp({ table, ids }, {}).y;
}
