import shader from '@filigree/wgsl/core/rms-norm.wgsl';
import { caseDimension, caseTensor, seededTensor } from '../cases.js';
import { DTypeError, ShapeError } from '../errors.js';
import { defineOp } from '../op.js';
import { formatShape, sizeOf } from '../shape.js';
import type { Tensor } from '../tensor.js';
import { withReduction } from '../webgpu-reduction.js';
import { cut, f32, u32 } from './plan.js';

/**
 * y = x / sqrt(mean(x²) + eps) · (weight + weightOffset), over the last axis.
 *
 * x [..., d] f32   weight [d] f32   y [..., d] f32
 *
 * `weightOffset` is 1 for checkpoints that store the scale minus one (Gemma safetensors).
 * Zhang and Sennrich, "Root Mean Square Layer Normalization", arXiv:1910.07467.
 */
export const rmsNormOp = /* @__PURE__ */ defineOp({
  name: 'core/rms-norm',
  inputs: ['x', 'weight'],
  outputs: ['y'],
  attributes: { eps: { type: 'number', default: 1e-5 }, weightOffset: { type: 'number', default: 0 } },
  infer({ x, weight }) {
    if (x.shape.length === 0) throw new ShapeError('rms-norm: x is a scalar, it needs a last axis to normalise over');
    const width = x.shape[x.shape.length - 1];
    if (weight.shape.length !== 1 || weight.shape[0] !== width) {
      throw new ShapeError(
        `rms-norm: weight ${formatShape(weight.shape)} does not match the last axis of x ${formatShape(x.shape)}`,
      );
    }
    if (x.dtype !== 'f32') throw new DTypeError(`rms-norm: x is ${x.dtype}, it takes f32`);
    if (weight.dtype !== 'f32') throw new DTypeError(`rms-norm: weight is ${weight.dtype}, it takes f32`);
    return { y: { shape: x.shape, dtype: 'f32' } };
  },
  reference({ x, weight, y }, { eps, weightOffset }) {
    const width = weight.shape[0];
    const rows = width === 0 ? 0 : sizeOf(x.shape) / width;
    for (let row = 0; row < rows; row++) {
      let sum = 0;
      for (let column = 0; column < width; column++) sum += x.data[row * width + column] ** 2;
      const scale = 1 / Math.sqrt(sum / width + eps);
      for (let column = 0; column < width; column++) {
        y.data[row * width + column] = x.data[row * width + column] * scale * (weight.data[column] + weightOffset);
      }
    }
  },
  native: 'core_rms_norm',
  webgpu: {
    shader: (variant) => withReduction('core/rms-norm', variant, shader),
    variants: ['subgroups'],
    selfTest: () => ({
      inputs: { x: seededTensor(1, [3, 100]), weight: seededTensor(2, [100]) },
      attributes: { eps: 1e-5, weightOffset: 0 },
    }),
    plan({ x, weight }, { eps, weightOffset }, limits) {
      const width = weight?.shape[0] ?? 0;
      const rows = width === 0 || !x ? 0 : sizeOf(x.shape) / width;
      return cut(rows, { x: 4 * width, y: 4 * width }, limits).map(({ count, ranges }) => ({
        workgroups: [count],
        uniforms: [u32(count), u32(width), f32(Number(eps)), f32(Number(weightOffset))],
        ranges,
      }));
    },
  },
  cases: (fc) =>
    fc.tuple(caseDimension(fc, 9), caseDimension(fc, 200, 1)).chain(([rows, width]) =>
      fc.record({
        inputs: fc.record({ x: caseTensor(fc, [rows, width]), weight: caseTensor(fc, [width]) }),
        attributes: fc.record({ eps: fc.constantFrom(1e-5, 1e-6), weightOffset: fc.constantFrom(0, 1) }),
      }),
    ),
});

/** Root-mean-square normalisation over the last axis: x [..., d], weight [d] → [..., d]. */
export function rmsNorm(x: Tensor, weight: Tensor, options: { eps?: number; weightOffset?: number } = {}): Tensor {
  return rmsNormOp({ x, weight }, options).y;
}
