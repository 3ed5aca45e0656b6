import {
  caseDimension,
  caseTensor,
  defineOp,
  DTypeError,
  formatShape,
  OptionError,
  sameShape,
  ShapeError,
} from '@filigree/core-tensor';
import { activationModes, quantizeActivations } from '../activations.js';
import { packedBlocks, seededBlocks } from '../cases.js';
import { decodeRow } from '../gguf/decode-row.js';
import { ggufLayout, ggufLayoutById, kernelTypes } from '../gguf/types.js';
import { tileBytes, tileRows, unpackRow } from '../packed-layout.js';
import { checkBlocks } from './check-blocks.js';
import { matmulKernel } from './webgpu.js';

/** `file`: rows as they lie in GGUF; `tiles`: the execution layout of the native kernels, made by `repack`. */
export const weightLayouts = ['file', 'tiles'] as const;
export type WeightLayout = (typeof weightLayouts)[number];

const floatTypes = ['F32', 'F16', 'BF16'];

/**
 * y = x Wᵀ + bias + residual for weights in GGUF blocks.
 *
 * x [T, inFeatures] f32   weights u8 [N, rowBytes] or [tiles, tileBytes]   bias [N] f32   residual [T, N] f32   y [T, N] f32
 *
 * With `activations: 'q8-32'` x is quantised as part of the op's definition ({@link quantizeActivations}) and the products of each group
 * are exact integers; with `'none'` weights are decoded to f32. Float weights always take x as it is. Rows of y are the same bits
 * whatever other rows x has. Moves N·inFeatures·bitsPerWeight/8 + 4·T·(inFeatures + N) bytes, 2·T·N·inFeatures operations.
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
    for (const [name, meta] of Object.entries({ x, bias, residual })) {
      if (meta && meta.dtype !== 'f32') throw new DTypeError(`quantization matmul: ${name} is ${meta.dtype}, it takes f32`);
    }
    if (x.shape.length !== 2 || x.shape[1] !== inFeatures) {
      throw new ShapeError(`quantization matmul: x is ${formatShape(x.shape)}, the weights take rows of ${inFeatures}`);
    }
    if (layout === 'file') {
      checkBlocks('quantization matmul', 'weights', weights, type, inFeatures);
      if (weights.shape[0] !== outFeatures) {
        throw new ShapeError(`quantization matmul: weights have ${weights.shape[0]} rows, outFeatures is ${outFeatures}`);
      }
    } else {
      if (!(kernelTypes as readonly string[]).includes(ggufLayoutById(type).name)) {
        throw new OptionError(`quantization matmul: type ${ggufLayoutById(type).name} has no tile layout`);
      }
      const expected = [Math.ceil(outFeatures / tileRows), tileBytes(type, inFeatures)];
      if (weights.dtype !== 'u8' || !sameShape(weights.shape, expected)) {
        throw new ShapeError(
          `quantization matmul: weights are ${formatShape(weights.shape)}, tiles of this shape are ${formatShape(expected)}`,
        );
      }
    }
    if (bias && !sameShape(bias.shape, [outFeatures])) {
      throw new ShapeError(`quantization matmul: bias is ${formatShape(bias.shape)}, it takes [${outFeatures}]`);
    }
    const y = { shape: [x.shape[0], outFeatures], dtype: 'f32' as const };
    if (residual && !sameShape(residual.shape, y.shape)) {
      throw new ShapeError(
        `quantization matmul: residual is ${formatShape(residual.shape)}, the result ${formatShape(y.shape)}`,
      );
    }
    return { y };
  },
  reference({ x, weights, bias, residual, y }, { type, outFeatures, inFeatures, layout, activations }) {
    const { name } = ggufLayoutById(type);
    const integer = activations === 'q8-32' && !floatTypes.includes(name);
    const tokens = x.shape[0];
    const rows = Array.from({ length: tokens }, (_, token) => {
      const row = Float64Array.from(x.data.subarray(token * inFeatures, (token + 1) * inFeatures));
      if (integer) quantizeActivations(x.data, token * inFeatures, row);
      return row;
    });
    const weight = new Float64Array(inFeatures);
    const bytes = weights.data as Uint8Array;
    const width = weights.shape[1];
    for (let n = 0; n < outFeatures; n++) {
      if (layout === 'file') decodeRow(name, bytes, n * width, inFeatures, weight);
      else {
        const tile = Math.floor(n / tileRows);
        unpackRow(type, inFeatures, bytes.subarray(tile * width, (tile + 1) * width), n % tileRows, weight);
      }
      for (let token = 0; token < tokens; token++) {
        let sum = 0;
        for (let k = 0; k < inFeatures; k++) sum += weight[k] * rows[token][k];
        y.data[token * outFeatures + n] = sum + (bias?.data[n] ?? 0) + (residual?.data[token * outFeatures + n] ?? 0);
      }
    }
  },
  native: 'quantization_matmul',
  webgpu: matmulKernel,
  // Long f32 sums of products that cancel lose some rounding steps of their largest partial sum.
  tolerance: { y: { absolute: 2e-3, relative: 5e-5 } },
  cases: (fc) =>
    fc
      .record({
        type: fc.constantFrom(...kernelTypes),
        tokens: fc.oneof(fc.nat(4), fc.nat(37)),
        outFeatures: caseDimension(fc, 40),
        blocks: fc.integer({ min: 1, max: 3 }),
        activations: fc.constantFrom(...activationModes),
        bias: fc.boolean(),
        residual: fc.boolean(),
        seed: fc.nat(1e6),
      })
      .chain(({ type, tokens, outFeatures, blocks, activations, bias, residual, seed }) => {
        const { id, elements } = ggufLayout(type);
        const inFeatures = elements === 1 ? 4 * blocks + (type === 'F32' ? 1 : 0) : blocks * elements;
        return fc.record({
          inputs: fc.record({
            x: caseTensor(fc, [tokens, inFeatures]).map(bounded),
            weights: fc.constant(seededBlocks(seed, id, outFeatures, inFeatures)),
            bias: bias ? caseTensor(fc, [outFeatures]) : fc.constant(undefined),
            residual: residual ? caseTensor(fc, [tokens, outFeatures]) : fc.constant(undefined),
          }),
          attributes: fc.constant({ type: id, outFeatures, inFeatures, layout: 'file', activations }),
        });
      }),
});

/** Keeps |x| ≤ 8, so that the absolute tolerance covers the rounding of f32 sums. */
function bounded<T extends { data: { [index: number]: number; length: number } }>(tensor: T): T {
  for (let index = 0; index < tensor.data.length; index++) tensor.data[index] = Math.max(-8, Math.min(8, tensor.data[index]));
  return tensor;
}

/** A generated case with its weights in the execution layout. */
export function tiledCase<C extends { inputs: Record<string, unknown>; attributes: Record<string, unknown> }>(generated: C): C {
  const { type, inFeatures } = generated.attributes as { type: number; inFeatures: number };
  const weights = packedBlocks(generated.inputs['weights'] as Parameters<typeof packedBlocks>[0], type, inFeatures);
  return { ...generated, inputs: { ...generated.inputs, weights }, attributes: { ...generated.attributes, layout: 'tiles' } };
}
