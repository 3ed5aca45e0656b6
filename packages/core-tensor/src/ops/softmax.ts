import shader from '@filigree/wgsl/core/softmax.wgsl';
import { caseDimension, caseTensor } from '../cases.js';
import { defineOp } from '../op.js';
import type { Tensor } from '../tensor.js';
import { expectDType, lastAxis, rowCount } from './check.js';
import { u32 } from './plan.js';

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
    shader: () => shader,
    plan: ({ x }) =>
      x ? [{ workgroups: [Math.ceil(rowCount(x) / 64)], uniforms: [u32(rowCount(x)), u32(lastAxis('softmax', 'x', x))] }] : [],
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
