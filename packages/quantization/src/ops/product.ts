import {
  DTypeError,
  formatShape,
  sameShape,
  ShapeError,
  type HostTensor,
  type NumberArray,
  type TensorMeta,
} from '@filigree/core-tensor';
import { quantizeActivations, type ActivationMode } from '../activations.js';
import { decodeRow } from '../gguf/decode-row.js';
import { takesFloats, weightLayoutById } from '../gguf/types.js';
import { tileBytes, tileRows, unpackRow } from '../packed-layout.js';
import { checkBlocks } from './check-blocks.js';

/** `file`: rows as they lie in GGUF; `tiles`: the execution layout of the native kernels, made by `repack`. */
export const weightLayouts = ['file', 'tiles'] as const;
export type WeightLayout = (typeof weightLayouts)[number];

/** A weight [outFeatures, inFeatures] of an op. */
export interface WeightForm {
  readonly type: number;
  readonly outFeatures: number;
  readonly inFeatures: number;
  readonly layout: WeightLayout;
}

export function checkInput(op: string, x: TensorMeta, inFeatures: number): void {
  if (x.dtype !== 'f32') throw new DTypeError(`${op}: x is ${x.dtype}, it takes f32`);
  if (x.shape.length !== 2 || x.shape[1] !== inFeatures)
    throw new ShapeError(`${op}: x is ${formatShape(x.shape)}, the weights take rows of ${inFeatures}`);
}

export function checkWeights(op: string, name: string, weights: TensorMeta, form: WeightForm): void {
  const { type, outFeatures, inFeatures, layout } = form;
  if (layout === 'file') {
    checkBlocks(op, name, weights, type, inFeatures);
    if (weights.shape[0] !== outFeatures)
      throw new ShapeError(`${op}: ${name} have ${weights.shape[0]} rows, outFeatures is ${outFeatures}`);
    return;
  }
  const expected = [Math.ceil(outFeatures / tileRows), tileBytes(type, inFeatures)];
  if (weights.dtype !== 'u8' || !sameShape(weights.shape, expected))
    throw new ShapeError(`${op}: ${name} are ${formatShape(weights.shape)}, tiles of this shape are ${formatShape(expected)}`);
}

export function checkBias(op: string, name: string, bias: TensorMeta | undefined, outFeatures: number): void {
  if (!bias) return;
  if (bias.dtype !== 'f32') throw new DTypeError(`${op}: ${name} is ${bias.dtype}, it takes f32`);
  if (!sameShape(bias.shape, [outFeatures]))
    throw new ShapeError(`${op}: ${name} is ${formatShape(bias.shape)}, it takes [${outFeatures}]`);
}

/** x Wᵀ + bias into `out`, the sums in f64. */
export function referenceProduct(
  x: HostTensor,
  weight: WeightForm & {
    readonly weights: HostTensor;
    readonly bias: HostTensor | undefined;
    readonly activations: ActivationMode;
  },
  out: NumberArray | Float64Array,
): void {
  const { type, outFeatures, inFeatures, layout, activations, weights, bias } = weight;
  const { name } = weightLayoutById(type);
  const integer = activations === 'q8-32' && !takesFloats(name);
  const tokens = x.shape[0];
  const rows = Array.from({ length: tokens }, (_, token) => {
    const row = Float64Array.from(x.data.subarray(token * inFeatures, (token + 1) * inFeatures));
    if (integer) quantizeActivations(x.data, token * inFeatures, row);
    return row;
  });
  const decoded = new Float64Array(inFeatures);
  const bytes = weights.data as Uint8Array;
  const width = weights.shape[1];
  for (let n = 0; n < outFeatures; n++) {
    if (layout === 'file') decodeRow(name, bytes, n * width, inFeatures, decoded);
    else {
      const tile = Math.floor(n / tileRows);
      unpackRow(type, inFeatures, bytes.subarray(tile * width, (tile + 1) * width), n % tileRows, decoded);
    }
    for (let token = 0; token < tokens; token++) {
      let sum = 0;
      for (let k = 0; k < inFeatures; k++) sum += decoded[k] * rows[token][k];
      out[token * outFeatures + n] = sum + (bias?.data[n] ?? 0);
    }
  }
}
