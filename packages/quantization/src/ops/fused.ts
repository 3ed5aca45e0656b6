import {
  caseDimension,
  caseTensor,
  ShapeError,
  type AttributeSpecs,
  type HostTensor,
  type OpCase,
  type TensorMeta,
} from '@filigree/core-tensor';
import type * as FastCheck from 'fast-check';
import { activationModes, type ActivationMode } from '../activations.js';
import { seededBlocks } from '../cases.js';
import { weightLayout, weightTypes } from '../gguf/types.js';
import { checkBias, checkInput, checkWeights, referenceProduct, weightLayouts, type WeightLayout } from './product.js';

/** Attributes of ops that multiply one input with several weights; `types` and `outFeatures` are in the weights' order. */
export const fusedAttributes = {
  types: { type: 'numbers' },
  outFeatures: { type: 'numbers' },
  inFeatures: { type: 'number' },
  layout: { type: 'enum', values: weightLayouts, default: 'file' },
  activations: { type: 'enum', values: activationModes, default: 'q8-32' },
} as const satisfies AttributeSpecs;

/** Why WebGPU has no kernels of these ops. */
export const fusedNativeOnly = 'a shader that reads several weights gains nothing: dispatches of one submission overlap';

interface FusedForm {
  readonly types: readonly number[];
  readonly outFeatures: readonly number[];
  readonly inFeatures: number;
  readonly layout: WeightLayout;
}

/** A weight and its bias by their names in the op's inputs. */
type Named<T> = readonly (readonly [name: string, weights: T, bias: T | undefined])[];

export function checkFused(op: string, x: TensorMeta, weights: Named<TensorMeta>, form: FusedForm): void {
  const { types, outFeatures, inFeatures, layout } = form;
  if (types.length !== weights.length || outFeatures.length !== weights.length)
    throw new ShapeError(`${op}: ${types.length} types and ${outFeatures.length} outFeatures for ${weights.length} weights`);
  checkInput(op, x, inFeatures);
  for (const [index, [name, weight, bias]] of weights.entries()) {
    checkWeights(op, name, weight, { type: types[index], outFeatures: outFeatures[index], inFeatures, layout });
    checkBias(op, `${name}Bias`, bias, outFeatures[index]);
  }
}

/** The products of x with every weight, in f64. */
export function referenceProducts(
  x: HostTensor,
  weights: readonly (readonly [weights: HostTensor, bias: HostTensor | undefined])[],
  form: FusedForm & { readonly activations: ActivationMode },
): Float64Array[] {
  return weights.map(([weight, bias], index) => {
    const out = new Float64Array(x.shape[0] * form.outFeatures[index]);
    const { types, outFeatures } = form;
    referenceProduct(x, { ...form, type: types[index], outFeatures: outFeatures[index], weights: weight, bias }, out);
    return out;
  });
}

/** Cases with weights of mixed types under `names`; `rows` gives outFeatures in terms of two dimensions. */
export function fusedCases(
  fc: typeof FastCheck,
  names: readonly string[],
  rows: (a: number, b: number) => readonly number[],
  most: number,
): FastCheck.Arbitrary<OpCase> {
  const fill = (index: number): FastCheck.Arbitrary<string> => fc.constantFrom(...typesOfBlock(index === 0 ? 32 : 256));
  return fc
    .record({
      types: fc.nat(1).chain((kind) => fc.tuple(...names.map(() => fill(kind)))),
      tokens: fc.oneof(fc.nat(4), fc.nat(37)),
      a: caseDimension(fc, 40),
      b: caseDimension(fc, 24),
      blocks: fc.integer({ min: 1, max: 2 }),
      activations: fc.constantFrom(...activationModes),
      biased: fc.boolean(),
      seed: fc.nat(1e6),
    })
    .chain(({ types, tokens, a, b, blocks, activations, biased, seed }) => {
      const layouts = types.map((type) => weightLayout(type));
      const inFeatures = blocks * Math.max(...layouts.map(({ elements }) => elements));
      const outFeatures = rows(a, b);
      const weights = names.map(
        (name, index) =>
          [name, fc.constant(seededBlocks(seed + index, layouts[index].id, outFeatures[index], inFeatures))] as const,
      );
      const biases = names.map(
        (name, index) => [`${name}Bias`, biased ? caseTensor(fc, [outFeatures[index]]) : fc.constant(undefined)] as const,
      );
      return fc.record({
        inputs: fc.record({
          x: caseTensor(fc, [tokens, inFeatures]).map((x) => bounded(x, most)),
          ...Object.fromEntries([...weights, ...biases]),
        }),
        attributes: fc.constant({ types: layouts.map(({ id }) => id), outFeatures, inFeatures, layout: 'file', activations }),
      });
    });
}

/** Types whose blocks divide rows of a multiple of `size`. */
function typesOfBlock(size: number): readonly string[] {
  return weightTypes.filter((type) => size % weightLayout(type).elements === 0);
}

/** Keeps |x| ≤ `most`, so that an absolute tolerance covers the rounding of f32 sums. */
export function bounded<T extends { data: { [index: number]: number; length: number } }>(tensor: T, most: number): T {
  for (let index = 0; index < tensor.data.length; index++)
    tensor.data[index] = Math.max(-most, Math.min(most, tensor.data[index]));
  return tensor;
}
