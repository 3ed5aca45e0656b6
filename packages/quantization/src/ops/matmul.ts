import { caseDimension, caseTensor, defineOp, DTypeError, formatShape, sameShape, ShapeError } from '@filigree/core-tensor';
import { activationModes } from '../activations.js';
import { packedBlocks, seededBlocks } from '../cases.js';
import { weightLayout, weightTypes } from '../gguf/types.js';
import { bounded } from './fused.js';
import { checkBias, checkInput, checkWeights, referenceProduct, weightLayouts } from './product.js';
import { matmulKernel } from './webgpu-matmul.js';

/**
 * y = x Wᵀ + bias + residual for weights in GGUF blocks.
 *
 * x [T, inFeatures] f32   weights u8 [N, rowBytes] or [tiles, tileBytes]   bias [N] f32   residual [T, N] f32   y [T, N] f32
 *
 * With `activations: 'q8-32'` x is quantised as part of the op's definition ({@link quantizeActivations}) and the products of each group
 * are exact integers; with `'none'` weights are decoded to f32. Types whose levels are floats always take x as it is. Rows of y are the same bits
 * whatever other rows x has, on WebGPU among calls that take the same kernel: it adds the groups of up to 16 tokens in another order than those
 * of more. Moves N·inFeatures·bitsPerWeight/8 + 4·T·(inFeatures + N) bytes, 2·T·N·inFeatures operations.
 */
export const matmulOp = /* @__PURE__ */ defineOp({
  name: 'quantization/matmul',
  inputs: ['x', 'weights', 'bias?', 'residual?'],
  outputs: ['y'],
  attributes: {
    type: { type: 'number' },
    outFeatures: { type: 'number' },
    inFeatures: { type: 'number' },
    layout: { type: 'enum', values: weightLayouts, default: 'file' },
    activations: { type: 'enum', values: activationModes, default: 'q8-32' },
  },
  infer({ x, weights, bias, residual }, { type, outFeatures, inFeatures, layout }) {
    if (residual && residual.dtype !== 'f32')
      throw new DTypeError(`quantization matmul: residual is ${residual.dtype}, it takes f32`);
    checkInput('quantization matmul', x, inFeatures);
    checkWeights('quantization matmul', 'weights', weights, { type, outFeatures, inFeatures, layout });
    checkBias('quantization matmul', 'bias', bias, outFeatures);
    const y = { shape: [x.shape[0], outFeatures], dtype: 'f32' as const };
    if (residual && !sameShape(residual.shape, y.shape)) {
      throw new ShapeError(
        `quantization matmul: residual is ${formatShape(residual.shape)}, the result ${formatShape(y.shape)}`,
      );
    }
    return { y };
  },
  reference({ x, weights, bias, residual, y }, attributes) {
    const product = new Float64Array(y.data.length);
    referenceProduct(x, { ...attributes, weights, bias }, product);
    for (let index = 0; index < product.length; index++) y.data[index] = product[index] + (residual?.data[index] ?? 0);
  },
  native: 'quantization_matmul',
  webgpu: matmulKernel,
  // Long f32 sums of products that cancel lose some rounding steps of their largest partial sum.
  tolerance: { y: { absolute: 2e-3, relative: 5e-5 } },
  cases: (fc) =>
    fc
      .record({
        type: fc.constantFrom(...weightTypes),
        tokens: fc.oneof(fc.nat(4), fc.nat(37)),
        outFeatures: caseDimension(fc, 40),
        blocks: fc.integer({ min: 1, max: 3 }),
        activations: fc.constantFrom(...activationModes),
        bias: fc.boolean(),
        residual: fc.boolean(),
        seed: fc.nat(1e6),
      })
      .chain(({ type, tokens, outFeatures, blocks, activations, bias, residual, seed }) => {
        const { id, elements } = weightLayout(type);
        const inFeatures = elements === 1 ? 4 * blocks + (type === 'F32' ? 1 : 0) : blocks * elements;
        return fc.record({
          inputs: fc.record({
            x: caseTensor(fc, [tokens, inFeatures]).map((x) => bounded(x, 8)),
            weights: fc.constant(seededBlocks(seed, id, outFeatures, inFeatures)),
            bias: bias ? caseTensor(fc, [outFeatures]) : fc.constant(undefined),
            residual: residual ? caseTensor(fc, [tokens, outFeatures]) : fc.constant(undefined),
          }),
          attributes: fc.constant({ type: id, outFeatures, inFeatures, layout: 'file', activations }),
        });
      }),
});

/** A generated case with its weights in the execution layout. */
export function tiledCase<C extends { inputs: Record<string, unknown>; attributes: Record<string, unknown> }>(generated: C): C {
  const { type, inFeatures } = generated.attributes as { type: number; inFeatures: number };
  const weights = packedBlocks(generated.inputs['weights'] as Parameters<typeof packedBlocks>[0], type, inFeatures);
  return { ...generated, inputs: { ...generated.inputs, weights }, attributes: { ...generated.attributes, layout: 'tiles' } };
}
