import { ggufTypes, type GgufType } from '@filigree/checkpoint';
import { OptionError } from '@filigree/core-tensor';
import { groupedType, groupedTypes, isInteger } from '../grouped/types.js';

/** How a type lays out weights: `elements` per block of `bytes`. */
export interface WeightTypeLayout {
  readonly name: string;
  readonly id: number;
  readonly elements: number;
  readonly bytes: number;
}

/** A type of GGUF. */
export interface GgufTypeLayout extends WeightTypeLayout {
  readonly name: GgufType;
}

/** Types that hold plain integers or doubles, never weights. */
const notWeights: readonly string[] = ['I8', 'I16', 'I32', 'I64', 'F64'];

/** GGUF types whose weights can be decoded, by name. */
export const ggufLayouts: ReadonlyMap<string, GgufTypeLayout> = /* @__PURE__ */ new Map(
  Object.values(ggufTypes)
    .filter(({ name }) => !notWeights.includes(name))
    .map(({ name, id, blockSize, blockBytes }) => [name, { name, id, elements: blockSize, bytes: blockBytes }]),
);

/** Types that have fused kernels on the native and WebGPU backends: every one whose weights can be decoded. */
export const kernelTypes = [
  ...['F32', 'F16', 'BF16'],
  ...['Q1_0', 'Q2_0', 'Q4_0', 'Q4_1', 'Q5_0', 'Q5_1', 'Q8_0'],
  ...['Q2_K', 'Q3_K', 'Q4_K', 'Q5_K', 'Q6_K'],
  ...['IQ4_NL', 'IQ4_XS', 'MXFP4', 'NVFP4', 'TQ1_0', 'TQ2_0'],
] as const;

/** Types that matrix products take: those of GGUF, and the grouped ones. */
export const weightTypes: readonly string[] = /* @__PURE__ */ allTypes();

function allTypes(): string[] {
  return [...kernelTypes, ...groupedTypes.map(({ name }) => name)];
}

/** Layout of a type of GGUF by name; throws an OptionError with the list of known ones. */
export function ggufLayout(type: string): GgufTypeLayout {
  const layout = ggufLayouts.get(type);
  if (!layout)
    throw new OptionError(`GGUF type '${type}' is not supported; supported are ${[...ggufLayouts.keys()].join(', ')}`);
  return layout;
}

/** Layout of any type of weights by name; throws an OptionError with the list of known ones. */
export function weightLayout(type: string): WeightTypeLayout {
  const layout = groupedType(type) ?? ggufLayouts.get(type);
  if (!layout) throw new OptionError(`type '${type}' is not supported; supported are ${weightTypes.join(', ')}`);
  return layout;
}

/** Layout of any type of weights by its id. */
export function weightLayoutById(id: number): WeightTypeLayout {
  for (const layout of ggufLayouts.values()) if (layout.id === id) return layout;
  const grouped = groupedTypes.find((type) => type.id === id);
  if (!grouped) throw new OptionError(`type ${id} is not supported; supported are ${weightTypes.join(', ')}`);
  return grouped;
}

/** Whether products take x as it is, never quantised: the levels of the type are no integers. */
export function takesFloats(type: string): boolean {
  const grouped = groupedType(type);
  return grouped ? !isInteger(grouped) : ggufLayout(type).elements === 1;
}

/** Bytes of one row of `inFeatures` weights; throws when they are not whole blocks. */
export function rowBytes(type: string, inFeatures: number): number {
  const { elements, bytes } = weightLayout(type);
  if (inFeatures % elements !== 0)
    throw new OptionError(`${type} rows come in blocks of ${elements}: ${inFeatures} inputs do not fill them`);
  return (inFeatures / elements) * bytes;
}
