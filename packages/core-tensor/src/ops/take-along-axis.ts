import shader from '@filigree/wgsl/core/take-along-axis.wgsl';
import { caseTensor } from '../cases.js';
import { ShapeError } from '../errors.js';
import { defineOp } from '../op.js';
import { formatShape } from '../shape.js';
import type { Tensor } from '../tensor.js';
import { expectDType, expectRank } from './check.js';
import { checkIds } from './gather-rows.js';
import { cut, groupsFor, u32 } from './plan.js';

/** y[r, i] = x[r, indices[r, i]]. x [R, N] f32, indices [R, M] i32, y [R, M] f32. */
export const takeAlongAxisOp = /* @__PURE__ */ defineOp({
  name: 'core/take-along-axis',
  inputs: ['x', 'indices'],
  outputs: ['y'],
  attributes: {},
  infer({ x, indices }) {
    expectDType('take-along-axis', 'x', x, 'f32');
    expectDType('take-along-axis', 'indices', indices, 'i32');
    expectRank('take-along-axis', 'x', x, 2, '[rows, n]');
    if (indices.shape.length !== 2 || indices.shape[0] !== x.shape[0]) {
      throw new ShapeError(
        `take-along-axis: indices ${formatShape(indices.shape)} do not have the rows of x ${formatShape(x.shape)}`,
      );
    }
    return { y: { shape: indices.shape, dtype: 'f32' } };
  },
  reference({ x, indices, y }) {
    checkIds('take-along-axis', indices.data, x.shape[1]);
    const [rows, count] = indices.shape;
    for (let row = 0; row < rows; row++) {
      for (let item = 0; item < count; item++)
        y.data[row * count + item] = x.data[row * x.shape[1] + indices.data[row * count + item]];
    }
  },
  native: 'core_take_along_axis',
  webgpu: {
    shader: () => shader,
    plan({ x, indices }, _, limits) {
      if (!x || !indices) return [];
      const [width, items] = [x.shape[1], indices.shape[1]];
      return cut(x.shape[0], { x: 4 * width, indices: 4 * items, y: 4 * items }, limits).map(({ count, ranges }) => ({
        workgroups: groupsFor(count * items),
        uniforms: [count * items, width, items].map(u32),
        ranges,
      }));
    },
  },
  cases: (fc) =>
    fc.record({ rows: fc.nat(5), width: fc.integer({ min: 1, max: 20 }), count: fc.nat(9) }).chain(({ rows, width, count }) =>
      fc.record({
        inputs: fc.record({
          x: caseTensor(fc, [rows, width]),
          indices: caseTensor(fc, [rows, count], { dtype: 'i32', low: 0, high: width - 1 }),
        }),
        attributes: fc.constant({}),
      }),
    ),
});

/** Elements of each row by index. */
export function takeAlongAxis(x: Tensor, indices: Tensor): Tensor {
  return takeAlongAxisOp({ x, indices }, {}).y;
}
