import shader from '@filigree/wgsl/core/layer-norm.wgsl';
import { caseDimension, caseTensor, seededTensor } from '../cases.js';
import { ShapeError } from '../errors.js';
import { defineOp } from '../op.js';
import { formatShape } from '../shape.js';
import type { Tensor } from '../tensor.js';
import { withReduction } from '../webgpu-reduction.js';
import { expectDType, lastAxis, rowCount } from './check.js';
import { cut, f32, u32 } from './plan.js';

/**
 * y = (x − mean x) / sqrt(var x + eps) · weight + bias over the last axis; the variance is the biased one.
 *
 * x [..., d] f32   weight [d] f32   bias [d] f32   y [..., d] f32.  Ba et al., "Layer Normalization", arXiv:1607.06450.
 */
export const layerNormOp = /* @__PURE__ */ defineOp({
  name: 'core/layer-norm',
  inputs: ['x', 'weight', 'bias'],
  outputs: ['y'],
  attributes: { eps: { type: 'number', default: 1e-5 } },
  infer({ x, weight, bias }) {
    const width = lastAxis('layer-norm', 'x', x);
    for (const [name, meta] of Object.entries({ x, weight, bias })) {
      expectDType('layer-norm', name, meta, 'f32');
      if (name !== 'x' && (meta.shape.length !== 1 || meta.shape[0] !== width)) {
        throw new ShapeError(
          `layer-norm: ${name} ${formatShape(meta.shape)} does not match the last axis of x ${formatShape(x.shape)}`,
        );
      }
    }
    return { y: x };
  },
  reference({ x, weight, bias, y }, { eps }) {
    const width = weight.shape[0];
    const rows = width === 0 ? 0 : rowCount(x);
    for (let row = 0; row < rows; row++) {
      const at = row * width;
      let mean = 0;
      for (let column = 0; column < width; column++) mean += x.data[at + column];
      mean /= width;
      let variance = 0;
      for (let column = 0; column < width; column++) variance += (x.data[at + column] - mean) ** 2;
      const scale = 1 / Math.sqrt(variance / width + eps);
      for (let column = 0; column < width; column++) {
        y.data[at + column] = (x.data[at + column] - mean) * scale * weight.data[column] + bias.data[column];
      }
    }
  },
  native: 'core_layer_norm',
  webgpu: {
    shader: (variant) => withReduction('core/layer-norm', variant, shader),
    variants: ['subgroups'],
    selfTest: () => ({
      inputs: { x: seededTensor(1, [3, 100]), weight: seededTensor(2, [100]), bias: seededTensor(3, [100]) },
      attributes: { eps: 1e-5 },
    }),
    plan: ({ x }, { eps }, limits) => {
      const width = x ? lastAxis('layer-norm', 'x', x) : 0;
      const rows = x && width > 0 ? rowCount(x) : 0;
      return cut(rows, { x: 4 * width, y: 4 * width }, limits).map(({ count, ranges }) => ({
        workgroups: [count],
        uniforms: [u32(count), u32(width), f32(Number(eps))],
        ranges,
      }));
    },
  },
  tolerance: { y: { absolute: 2e-4, relative: 1e-4 } },
  cases: (fc) =>
    fc.tuple(caseDimension(fc, 9), caseDimension(fc, 150, 2)).chain(([rows, width]) =>
      fc.record({
        inputs: fc.record({
          x: caseTensor(fc, [rows, width]),
          weight: caseTensor(fc, [width], { low: 0.5, high: 1.5 }),
          bias: caseTensor(fc, [width]),
        }),
        attributes: fc.record({ eps: fc.constantFrom(1e-5, 1e-6) }),
      }),
    ),
});

/** Layer normalisation over the last axis. */
export function layerNorm(x: Tensor, weight: Tensor, bias: Tensor, options: { eps?: number } = {}): Tensor {
  return layerNormOp({ x, weight, bias }, options).y;
}
