import shader from '@filigree/wgsl/core/arg-max.wgsl';
import { caseDimension, caseTensor } from '../cases.js';
import { ShapeError } from '../errors.js';
import { defineOp } from '../op.js';
import type { Tensor } from '../tensor.js';
import { expectDType, expectRank } from './check.js';
import { cut, u32 } from './plan.js';
import { descending } from './top-k.js';

/** Index of the largest element of each row; ties to the lower index, the first NaN wins. x [R, N] f32, N ≥ 1 → y [R] i32. */
export const argMaxOp = /* @__PURE__ */ defineOp({
  name: 'core/arg-max',
  inputs: ['x'],
  outputs: ['y'],
  attributes: {},
  infer({ x }) {
    expectDType('arg-max', 'x', x, 'f32');
    expectRank('arg-max', 'x', x, 2, '[rows, n]');
    if (x.shape[1] === 0) throw new ShapeError('arg-max: rows of x are empty, they have no largest element');
    return { y: { shape: [x.shape[0]], dtype: 'i32' } };
  },
  reference({ x, y }) {
    const [rows, width] = x.shape;
    for (let row = 0; row < rows; row++) {
      const data = x.data.subarray(row * width, (row + 1) * width);
      let best = 0;
      for (let column = 1; column < width; column++) if (descending(data, column, best) < 0) best = column;
      y.data[row] = best;
    }
  },
  native: 'core_arg_max',
  webgpu: {
    shader: () => shader,
    plan: ({ x }, _, limits) =>
      x
        ? cut(x.shape[0], { x: 4 * x.shape[1], y: 4 }, limits).map(({ count, ranges }) => ({
            workgroups: [count],
            uniforms: [u32(count), u32(x.shape[1])],
            ranges,
          }))
        : [],
  },
  cases: (fc) =>
    fc
      .tuple(fc.nat(5), caseDimension(fc, 200, 1))
      .chain(([rows, width]) =>
        fc.record({ inputs: fc.record({ x: caseTensor(fc, [rows, width]) }), attributes: fc.constant({}) }),
      ),
});

/** Index of the largest element of each row of x [R, N]. */
export function argMax(x: Tensor): Tensor {
  return argMaxOp({ x }, {}).y;
}
