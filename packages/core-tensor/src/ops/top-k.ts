import shader from '@filigree/wgsl/core/top-k.wgsl';
import { caseDimension, caseTensor } from '../cases.js';
import { ShapeError } from '../errors.js';
import { defineOp } from '../op.js';
import type { Tensor } from '../tensor.js';
import { expectDType, expectRank } from './check.js';
import { cut, u32 } from './plan.js';

/** Descending by value, NaN before everything, ties to the lower index. */
export function descending(values: ArrayLike<number>, a: number, b: number): number {
  const [x, y] = [values[a], values[b]];
  const [nanX, nanY] = [Number.isNaN(x), Number.isNaN(y)];
  if (nanX || nanY) return nanX && nanY ? a - b : nanX ? -1 : 1;
  return x === y ? a - b : x > y ? -1 : 1;
}

/**
 * The k largest elements of each row, descending; ties go to the lower index, NaN counts as greatest.
 *
 * x [R, N] f32   values [R, k] f32   indices [R, k] i32   k ≤ N
 */
export const topKOp = /* @__PURE__ */ defineOp({
  name: 'core/top-k',
  inputs: ['x'],
  outputs: ['values', 'indices'],
  attributes: { k: { type: 'number' } },
  infer({ x }, { k }) {
    expectDType('top-k', 'x', x, 'f32');
    expectRank('top-k', 'x', x, 2, '[rows, n]');
    if (!Number.isInteger(k) || k < 0 || k > x.shape[1])
      throw new ShapeError(`top-k: k is ${k}, rows of x have ${x.shape[1]} elements`);
    return { values: { shape: [x.shape[0], k], dtype: 'f32' }, indices: { shape: [x.shape[0], k], dtype: 'i32' } };
  },
  reference({ x, values, indices }, { k }) {
    const [rows, width] = x.shape;
    for (let row = 0; row < rows; row++) {
      const data = x.data.subarray(row * width, (row + 1) * width);
      const order = Array.from({ length: width }, (_, index) => index).sort((a, b) => descending(data, a, b));
      for (let rank = 0; rank < k; rank++) {
        values.data[row * k + rank] = data[order[rank]];
        indices.data[row * k + rank] = order[rank];
      }
    }
  },
  native: 'core_top_k',
  webgpu: {
    shader: () => shader,
    plan({ x }, { k }, limits) {
      const picks = Number(k);
      if (!x || picks === 0) return [];
      const [rows, width] = x.shape;
      return cut(rows, { x: 4 * width, values: 4 * picks, indices: 4 * picks }, limits).map(({ count, ranges }) => ({
        workgroups: [count],
        uniforms: [u32(count), u32(width), u32(picks)],
        ranges,
      }));
    },
  },
  cases: (fc) =>
    fc.tuple(fc.nat(4), caseDimension(fc, 130)).chain(([rows, width]) =>
      fc.record({
        // Small integers make ties.
        inputs: fc.record({ x: fc.oneof(caseTensor(fc, [rows, width]), caseTensor(fc, [rows, width]).map(coarse)) }),
        attributes: fc.record({ k: fc.nat(Math.min(width, 12)) }),
      }),
    ),
});

function coarse<T extends { data: { [index: number]: number; length: number } }>(tensor: T): T {
  for (let index = 0; index < tensor.data.length; index++) tensor.data[index] = Math.round(tensor.data[index]);
  return tensor;
}

/** The k largest of each row of x [R, N]. */
export function topK(x: Tensor, k: number): { values: Tensor; indices: Tensor } {
  return topKOp({ x }, { k });
}
