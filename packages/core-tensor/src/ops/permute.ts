import { caseTensor } from '../cases.js';
import { ShapeError } from '../errors.js';
import { defineOp } from '../op.js';
import { formatShape, stridesOf } from '../shape.js';
import type { Tensor } from '../tensor.js';
import { expectCopyRank, forEachStrided, stridedCopyPlan, stridedCopyShader } from './strided-copy.js';

/** y with axis i = axis axes[i] of x, a copy. Any dtype. */
export const permuteOp = /* @__PURE__ */ defineOp({
  name: 'core/permute',
  inputs: ['x'],
  outputs: ['y'],
  attributes: { axes: { type: 'numbers' } },
  infer({ x }, { axes }) {
    expectCopyRank('permute', x);
    const sorted = [...axes].sort((a, b) => a - b);
    if (axes.length !== x.shape.length || sorted.some((axis, index) => axis !== index)) {
      throw new ShapeError(`permute: axes ${formatShape(axes)} are not a permutation of the axes of x ${formatShape(x.shape)}`);
    }
    return { y: { shape: axes.map((axis) => x.shape[axis]), dtype: x.dtype } };
  },
  reference({ x, y }, { axes }) {
    const strides = stridesOf(x.shape);
    forEachStrided(
      y.shape,
      0,
      axes.map((axis) => strides[axis]),
      (target, source) => {
        y.data[target] = x.data[source];
      },
    );
  },
  native: 'core_permute',
  webgpu: {
    shader: () => stridedCopyShader,
    plan({ x, y }, { axes }, limits) {
      if (!x || !y) return [];
      const strides = stridesOf(x.shape);
      return stridedCopyPlan(
        y,
        0,
        (axes as readonly number[]).map((axis) => strides[axis]),
        limits,
      );
    },
  },
  cases: (fc) =>
    fc
      .record({
        shape: fc.array(fc.nat(6), { minLength: 1, maxLength: 4 }),
        dtype: fc.constantFrom('f32' as const, 'f16' as const, 'u8' as const, 'i32' as const),
      })
      .chain(({ shape, dtype }) =>
        fc.record({
          inputs: fc.record({ x: caseTensor(fc, shape, dtype === 'u8' ? { dtype, low: 0, high: 255 } : { dtype }) }),
          attributes: fc.record({
            axes: fc.shuffledSubarray([...shape.keys()], { minLength: shape.length, maxLength: shape.length }),
          }),
        }),
      ),
});

/** x with its axes in another order. */
export function permute(x: Tensor, axes: readonly number[]): Tensor {
  return permuteOp({ x }, { axes }).y;
}
