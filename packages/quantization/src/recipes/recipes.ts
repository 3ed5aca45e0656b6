import { OptionError } from '@filigree/core-tensor';
import { quantizedTypes } from '../quantize/encode-row.js';
import type { TensorRole } from './tensor-role.js';

/** What rules look at, of the model and of the layer of a tensor. */
export interface TensorPlace {
  /** Layers of the model. */
  readonly layers: number;
  /** The tensor's layer. */
  readonly layer: number;
  /** Query heads that share a key-value head. */
  readonly queryGroup: number;
  /** Experts of a layer; 0 in dense models. */
  readonly experts: number;
}

type Rule = string | ((place: TensorPlace) => string | undefined);

/** Types for the tensors of a model. */
export interface Recipe {
  readonly id: string;
  /** The number that llama.cpp keeps in `general.file_type`; undefined where it has none for the mix. */
  readonly fileType: number | undefined;
  /** Type of weights without a rule. */
  readonly type: string;
  /** The type of a tensor where a rule returns one. */
  readonly rules: Partial<Readonly<Record<TensorRole, Rule>>>;
}

/** The first and the last eighth of the layers and every third between them get more bits. */
const moreBits = ({ layer, layers }: TensorPlace): boolean => {
  const eighth = Math.trunc(layers / 8);
  return layer < eighth || layer >= Math.trunc((7 * layers) / 8) || (layer - eighth) % 3 === 2;
};
const first = (divisor: number, type: string, otherwise?: string) => (place: TensorPlace) =>
  place.layer < Math.trunc(place.layers / divisor) ? type : otherwise;
const firstLayers = (count: number, type: string, otherwise?: string) => (place: TensorPlace) =>
  place.layer < count ? type : otherwise;
const mixed = (type: string) => (place: TensorPlace) => (moreBits(place) ? type : undefined);
const grouped = (type: string, otherwise?: string) => (place: TensorPlace) => (place.queryGroup >= 4 ? type : otherwise);

/** Mixes of types by role; sources: ggml-org/llama.cpp, src/llama-quant.cpp (dense models). */
const mixes: readonly Recipe[] = /* @__PURE__ */ (() => [
  {
    id: 'Q2_K',
    fileType: 10,
    type: 'Q2_K',
    rules: { value: grouped('Q4_K', 'Q3_K'), down: 'Q3_K', 'attention-output': 'Q3_K' },
  },
  { id: 'Q3_K_S', fileType: 11, type: 'Q3_K', rules: {} },
  {
    id: 'Q3_K_M',
    fileType: 12,
    type: 'Q3_K',
    rules: { value: firstLayers(2, 'Q5_K', 'Q4_K'), down: first(16, 'Q5_K', 'Q4_K'), 'attention-output': 'Q4_K' },
  },
  { id: 'Q3_K_L', fileType: 13, type: 'Q3_K', rules: { value: 'Q5_K', down: 'Q5_K', 'attention-output': 'Q5_K' } },
  { id: 'Q4_K_S', fileType: 14, type: 'Q4_K', rules: { value: firstLayers(4, 'Q5_K'), down: first(8, 'Q5_K') } },
  { id: 'Q4_K_M', fileType: 15, type: 'Q4_K', rules: { value: mixed('Q6_K'), down: mixed('Q6_K') } },
  { id: 'Q5_K_S', fileType: 16, type: 'Q5_K', rules: {} },
  { id: 'Q5_K_M', fileType: 17, type: 'Q5_K', rules: { value: mixed('Q6_K'), down: mixed('Q6_K') } },
  { id: 'IQ4_NL', fileType: 25, type: 'IQ4_NL', rules: { value: grouped('Q5_K'), down: first(8, 'Q5_K') } },
  { id: 'IQ4_XS', fileType: 30, type: 'IQ4_XS', rules: { value: grouped('Q5_K'), down: first(8, 'Q5_K') } },
  { id: 'TQ1_0', fileType: 36, type: 'TQ1_0', rules: { embedding: 'Q4_K' } },
  { id: 'TQ2_0', fileType: 37, type: 'TQ2_0', rules: { embedding: 'Q4_K' } },
  { id: 'Q2_0', fileType: 41, type: 'Q2_0', rules: { embedding: 'Q4_K' } },
])();

/** Numbers of the recipes that use one type alone. */
const fileTypes: Readonly<Record<string, number>> = /* @__PURE__ */ (() => ({
  ...{ F32: 0, F16: 1, BF16: 32, Q4_0: 2, Q4_1: 3, Q5_0: 8, Q5_1: 9, Q8_0: 7, Q6_K: 18, Q1_0: 40, NVFP4: 39 },
}))();

/** Other names of recipes. */
const aliases: Readonly<Record<string, string>> = { Q3_K: 'Q3_K_M', Q4_K: 'Q4_K_M', Q5_K: 'Q5_K_M' };

/** Every recipe: the mixes, and each type that can be written on its own. */
export const recipes: readonly Recipe[] = /* @__PURE__ */ allRecipes();

function allRecipes(): Recipe[] {
  const named = new Set([...mixes.map(({ id }) => id), ...Object.keys(aliases)]);
  const single = quantizedTypes
    .filter((type) => !named.has(type))
    .map((type) => ({ id: type, fileType: fileTypes[type], type, rules: {} }));
  return [...single, ...mixes];
}

/** The recipe of that name, upper or lower case; throws an OptionError with the list. */
export function recipe(name: string): Recipe {
  const upper = name.toUpperCase();
  const id = Object.hasOwn(aliases, upper) ? aliases[upper] : upper;
  const found = recipes.find((entry) => entry.id === id);
  if (!found)
    throw new OptionError(`'${name}' is no type to quantise to; there are ${recipes.map((entry) => entry.id).join(', ')}`);
  return found;
}
