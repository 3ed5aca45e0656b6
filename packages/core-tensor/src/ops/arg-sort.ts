import shader from '@filigree/wgsl/core/arg-sort.wgsl';
import { caseDimension, caseTensor } from '../cases.js';
import { defineOp } from '../op.js';
import { sizeOf } from '../shape.js';
import type { Tensor } from '../tensor.js';
import { expectDType, expectRank } from './check.js';
import { cut, groupsFor, u32 } from './plan.js';
import { descending } from './top-k.js';

/**
 * Indices that sort each row; stable: equal elements keep their order. NaN counts as greatest. x [R, N] f32 → y [R, N] i32.
 */
export const argSortOp = /* @__PURE__ */ defineOp({
  name: 'core/arg-sort',
  inputs: ['x'],
  outputs: ['y'],
  attributes: { descending: { type: 'boolean', default: false } },
  infer({ x }) {
    expectDType('arg-sort', 'x', x, 'f32');
    expectRank('arg-sort', 'x', x, 2, '[rows, n]');
    return { y: { shape: x.shape, dtype: 'i32' } };
  },
  reference({ x, y }, attributes) {
    const [rows, width] = x.shape;
    for (let row = 0; row < rows; row++) {
      const data = x.data.subarray(row * width, (row + 1) * width);
      const order = Array.from({ length: width }, (_, index) => index);
      if (attributes.descending) order.sort((a, b) => descending(data, a, b));
      else order.sort((a, b) => (same(data[a], data[b]) ? a - b : descending(data, b, a)));
      y.data.set(order, row * width);
    }
  },
  native: 'core_arg_sort',
  webgpu: {
    shader: () => shader,
    plan({ x }, { descending: down }, limits) {
      if (!x || sizeOf(x.shape) === 0) return [];
      const width = x.shape[1];
      return cut(x.shape[0], { x: 4 * width, y: 4 * width }, limits).map(({ count, ranges }) => ({
        workgroups: groupsFor(count * width),
        uniforms: [count * width, width, down ? 1 : 0].map(u32),
        ranges,
      }));
    },
  },
  cases: (fc) =>
    fc.tuple(fc.nat(4), caseDimension(fc, 130)).chain(([rows, width]) =>
      fc.record({
        // Quarters make ties.
        inputs: fc.record({ x: fc.oneof(caseTensor(fc, [rows, width]), caseTensor(fc, [rows, width]).map(quarters)) }),
        attributes: fc.record({ descending: fc.boolean() }),
      }),
    ),
});

function same(a: number, b: number): boolean {
  return a === b || (Number.isNaN(a) && Number.isNaN(b));
}

function quarters<T extends { data: { [index: number]: number; length: number } }>(tensor: T): T {
  for (let index = 0; index < tensor.data.length; index++) tensor.data[index] = Math.round(tensor.data[index] * 4) / 4 + 0;
  return tensor;
}

/** Indices that sort each row of x [R, N], ascending unless `descending`. */
export function argSort(x: Tensor, options: { descending?: boolean } = {}): Tensor {
  return argSortOp({ x }, options).y;
}
