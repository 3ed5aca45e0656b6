import shader from '@filigree/wgsl/core/gated-activation.wgsl';
import { caseDimension, caseTensor } from '../cases.js';
import { ShapeError } from '../errors.js';
import { defineOp } from '../op.js';
import { formatShape, sameShape, sizeOf } from '../shape.js';
import type { Tensor } from '../tensor.js';
import { expectDType } from './check.js';
import { elementwiseDispatch, u32 } from './plan.js';
import { applyUnary, unaryKinds } from './unary.js';

/** Gates of feed-forward layers; `silu` makes SwiGLU, `gelu` GeGLU, `relu2` ReLU²-GLU. */
export const gateKinds = ['silu', 'gelu', 'gelu-erf', 'relu', 'relu2', 'sigmoid'] as const;
export type GateKind = (typeof gateKinds)[number];

/**
 * y = f(gate) · up. gate, up, y [...] f32 of one shape. Shazeer, "GLU Variants Improve Transformer", arXiv:2002.05202.
 */
export const gatedActivationOp = /* @__PURE__ */ defineOp({
  name: 'core/gated-activation',
  inputs: ['gate', 'up'],
  outputs: ['y'],
  attributes: { kind: { type: 'enum', values: gateKinds, default: 'silu' } },
  infer({ gate, up }) {
    expectDType('gated-activation', 'gate', gate, 'f32');
    expectDType('gated-activation', 'up', up, 'f32');
    if (!sameShape(gate.shape, up.shape)) {
      throw new ShapeError(`gated-activation: gate ${formatShape(gate.shape)} and up ${formatShape(up.shape)} differ`);
    }
    return { y: gate };
  },
  reference({ gate, up, y }, { kind }) {
    for (let index = 0; index < y.data.length; index++) y.data[index] = applyUnary(kind, gate.data[index]) * up.data[index];
  },
  native: 'core_gated_activation',
  webgpu: {
    shader: () => shader,
    plan: ({ gate }, { kind }, limits) =>
      elementwiseDispatch(gate ? sizeOf(gate.shape) : 0, { gate: 4, up: 4, y: 4 }, limits, [
        u32(unaryKinds.indexOf(kind as GateKind)),
      ]),
  },
  // The tail of GELU is 1 − 1 in f32, and `up` goes into the hundreds.
  tolerance: { y: { absolute: 1e-4, relative: 2e-5 } },
  cases: (fc) =>
    fc.tuple(caseDimension(fc, 9), caseDimension(fc, 100)).chain((shape) =>
      fc.record({
        inputs: fc.record({ gate: caseTensor(fc, shape, { low: -6, high: 6 }), up: caseTensor(fc, shape) }),
        attributes: fc.record({ kind: fc.constantFrom(...gateKinds) }),
      }),
    ),
});

/** f(gate) · up, element by element. */
export function gatedActivation(gate: Tensor, up: Tensor, kind: GateKind = 'silu'): Tensor {
  return gatedActivationOp({ gate, up }, { kind }).y;
}
