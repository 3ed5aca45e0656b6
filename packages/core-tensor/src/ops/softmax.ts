import shader from '@filigree/wgsl/core/softmax.wgsl';
import { caseDimension, caseTensor, seededTensor } from '../cases.js';
import { defineOp } from '../op.js';
import { sizeOf } from '../shape.js';
import type { Tensor } from '../tensor.js';
import { withReduction } from '../webgpu-reduction.js';
import { expectDType, lastAxis, rowCount } from './check.js';
import { cut, u32 } from './plan.js';

/**
 * y = exp(x − max x) / Σ exp(x − max x) over the last axis. x [..., n] f32, y [..., n] f32.
 *
 * A row of −∞ alone gives NaN, as the formula does.
 */
export const softmaxOp = /* @__PURE__ */ defineOp({
  name: 'core/softmax',
  inputs: ['x'],
  outputs: ['y'],
  attributes: {},
  infer({ x }) {
    expectDType('softmax', 'x', x, 'f32');
    lastAxis('softmax', 'x', x);
    return { y: x };
  },
  reference({ x, y }) {
    const width = lastAxis('softmax', 'x', x);
    for (let row = 0; row < rowCount(x); row++) {
      const at = row * width;
      let largest = -Infinity;
      for (let column = 0; column < width; column++) largest = Math.max(largest, x.data[at + column]);
      let sum = 0;
      for (let column = 0; column < width; column++) sum += Math.exp(x.data[at + column] - largest);
      for (let column = 0; column < width; column++) y.data[at + column] = Math.exp(x.data[at + column] - largest) / sum;
    }
  },
  native: 'core_softmax',
  webgpu: {
    shader: (variant) => withReduction('core/softmax', variant, shader),
    variants: ['subgroups'],
    selfTest: () => ({ inputs: { x: seededTensor(1, [3, 100]) }, attributes: {} }),
    plan({ x }, _, limits) {
      if (!x || sizeOf(x.shape) === 0) return [];
      const width = lastAxis('softmax', 'x', x);
      return cut(rowCount(x), { x: 4 * width, y: 4 * width }, limits).map(({ count, ranges }) => ({
        workgroups: [count],
        uniforms: [u32(count), u32(width)],
        ranges,
      }));
    },
  },
  cases: (fc) =>
    fc.tuple(caseDimension(fc, 9), caseDimension(fc, 150)).chain(([rows, width]) =>
      fc.record({
        inputs: fc.record({ x: caseTensor(fc, [rows, width], { low: -8, high: 8 }) }),
        attributes: fc.constant({}),
      }),
    ),
});

/** Softmax over the last axis. */
export function softmax(x: Tensor): Tensor {
  return softmaxOp({ x }, {}).y;
}
