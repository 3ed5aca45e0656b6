import { caseTensor } from '../cases.js';
import { ShapeError } from '../errors.js';
import { defineOp } from '../op.js';
import { formatShape, stridesOf } from '../shape.js';
import type { Tensor } from '../tensor.js';
import { expectCopyRank, forEachStrided, stridedCopyPlan, stridedCopyShader } from './strided-copy.js';

function startOf(shape: readonly number[], starts: readonly number[]): number {
  const strides = stridesOf(shape);
  return starts.reduce((sum, position, axis) => sum + position * strides[axis], 0);
}

/** y = x[starts[0] … starts[0] + sizes[0], …], a copy. Any dtype. Leading-axis slices are cheaper as a view: `narrow`. */
export const sliceOp = /* @__PURE__ */ defineOp({
  name: 'core/slice',
  inputs: ['x'],
  outputs: ['y'],
  attributes: { starts: { type: 'numbers' }, sizes: { type: 'numbers' } },
  infer({ x }, { starts, sizes }) {
    expectCopyRank('slice', x);
    const fits =
      starts.length === x.shape.length &&
      sizes.length === x.shape.length &&
      x.shape.every((dimension, axis) => {
        const [start, size] = [starts[axis], sizes[axis]];
        return Number.isInteger(start) && Number.isInteger(size) && start >= 0 && size >= 0 && start + size <= dimension;
      });
    if (!fits)
      throw new ShapeError(
        `slice: starts ${formatShape(starts)} with sizes ${formatShape(sizes)} do not fit x ${formatShape(x.shape)}`,
      );
    return { y: { shape: sizes, dtype: x.dtype } };
  },
  reference({ x, y }, { starts }) {
    forEachStrided(y.shape, startOf(x.shape, starts), stridesOf(x.shape), (target, source) => {
      y.data[target] = x.data[source];
    });
  },
  native: 'core_slice',
  webgpu: {
    shader: () => stridedCopyShader,
    plan: ({ x, y }, { starts }, limits) =>
      x && y ? stridedCopyPlan(y, startOf(x.shape, starts as readonly number[]), stridesOf(x.shape), limits) : [],
  },
  cases: (fc) =>
    fc
      .record({
        axes: fc.array(fc.tuple(fc.nat(6), fc.nat(3), fc.nat(3)), { minLength: 1, maxLength: 4 }),
        dtype: fc.constantFrom('f32' as const, 'f16' as const, 'u8' as const, 'i32' as const),
      })
      .chain(({ axes, dtype }) =>
        fc.record({
          inputs: fc.record({
            x: caseTensor(
              fc,
              axes.map(([size, before, after]) => size + before + after),
              dtype === 'u8' ? { dtype, low: 0, high: 255 } : { dtype },
            ),
          }),
          attributes: fc.constant({ starts: axes.map(([, before]) => before), sizes: axes.map(([size]) => size) }),
        }),
      ),
});

/** A copy of the block of x that starts at `starts` and has shape `sizes`. */
export function slice(x: Tensor, starts: readonly number[], sizes: readonly number[]): Tensor {
  return sliceOp({ x }, { starts, sizes }).y;
}
