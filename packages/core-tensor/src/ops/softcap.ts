import shader from '@filigree/wgsl/core/softcap.wgsl';
import { caseDimension, caseTensor } from '../cases.js';
import { OptionError } from '../errors.js';
import { defineOp } from '../op.js';
import { sizeOf } from '../shape.js';
import type { Tensor } from '../tensor.js';
import { expectDType } from './check.js';
import { elementwiseDispatch, f32 } from './plan.js';

/** y = cap · tanh(x / cap), element by element. x, y [...] f32. Gemma 2, arXiv:2408.00118. */
export const softcapOp = /* @__PURE__ */ defineOp({
  name: 'core/softcap',
  inputs: ['x'],
  outputs: ['y'],
  attributes: { cap: { type: 'number' } },
  infer({ x }, { cap }) {
    expectDType('softcap', 'x', x, 'f32');
    if (!(cap > 0)) throw new OptionError(`softcap: cap is ${cap}, it must be positive`);
    return { y: x };
  },
  reference({ x, y }, { cap }) {
    for (let index = 0; index < y.data.length; index++) y.data[index] = cap * Math.tanh(x.data[index] / cap);
  },
  native: 'core_softcap',
  webgpu: {
    shader: () => shader,
    plan: ({ x }, { cap }, limits) => elementwiseDispatch(x ? sizeOf(x.shape) : 0, { x: 4, y: 4 }, limits, [f32(Number(cap))]),
  },
  tolerance: { y: { absolute: 1e-5, relative: 1e-4 } },
  cases: (fc) =>
    fc.record({
      inputs: caseDimension(fc, 200).chain((size) => fc.record({ x: caseTensor(fc, [size], { low: -50, high: 50 }) })),
      attributes: fc.record({ cap: fc.constantFrom(1, 30, 50) }),
    }),
});

/** cap · tanh(x / cap). */
export function softcap(x: Tensor, cap: number): Tensor {
  return softcapOp({ x }, { cap }).y;
}
