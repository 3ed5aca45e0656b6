import shader from '@filigree/wgsl/core/where.wgsl';
import { caseDimension, caseTensor } from '../cases.js';
import { ShapeError } from '../errors.js';
import { defineOp } from '../op.js';
import { formatShape, sameShape, sizeOf } from '../shape.js';
import type { Tensor } from '../tensor.js';
import { expectDType } from './check.js';
import { elementwiseDispatch } from './plan.js';

/** y = condition ? a : b, element by element. condition [...] bool, a, b, y [...] f32, one shape. */
export const whereOp = /* @__PURE__ */ defineOp({
  name: 'core/where',
  inputs: ['condition', 'a', 'b'],
  outputs: ['y'],
  attributes: {},
  infer({ condition, a, b }) {
    expectDType('where', 'condition', condition, 'bool');
    expectDType('where', 'a', a, 'f32');
    expectDType('where', 'b', b, 'f32');
    if (!sameShape(condition.shape, a.shape) || !sameShape(a.shape, b.shape)) {
      throw new ShapeError(
        `where: condition ${formatShape(condition.shape)}, a ${formatShape(a.shape)} and b ${formatShape(b.shape)} differ`,
      );
    }
    return { y: a };
  },
  reference({ condition, a, b, y }) {
    for (let index = 0; index < y.data.length; index++) y.data[index] = condition.data[index] ? a.data[index] : b.data[index];
  },
  native: 'core_where',
  webgpu: {
    shader: () => shader,
    plan: ({ a }, _, limits) => elementwiseDispatch(a ? sizeOf(a.shape) : 0, { condition: 1, a: 4, b: 4, y: 4 }, limits),
  },
  cases: (fc) =>
    caseDimension(fc, 150).chain((size) =>
      fc.record({
        inputs: fc.record({
          condition: caseTensor(fc, [size], { dtype: 'bool' }),
          a: caseTensor(fc, [size]),
          b: caseTensor(fc, [size]),
        }),
        attributes: fc.constant({}),
      }),
    ),
});

/** a where the condition holds, otherwise b. */
export function where(condition: Tensor, a: Tensor, b: Tensor): Tensor {
  return whereOp({ condition, a, b }, {}).y;
}
