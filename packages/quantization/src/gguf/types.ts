import { OptionError } from '@filigree/core-tensor';

/** How one GGUF type lays out weights: `elements` per block of `bytes`. */
export interface GgufTypeLayout {
  readonly name: string;
  readonly id: number;
  readonly elements: number;
  readonly bytes: number;
}

const rows: readonly (readonly [string, number, number, number])[] = [
  ['F32', 0, 1, 4],
  ['F16', 1, 1, 2],
  ['Q4_0', 2, 32, 18],
  ['Q4_1', 3, 32, 20],
  ['Q5_0', 6, 32, 22],
  ['Q5_1', 7, 32, 24],
  ['Q8_0', 8, 32, 34],
  ['Q2_K', 10, 256, 84],
  ['Q3_K', 11, 256, 110],
  ['Q4_K', 12, 256, 144],
  ['Q5_K', 13, 256, 176],
  ['Q6_K', 14, 256, 210],
  ['IQ4_NL', 20, 32, 18],
  ['IQ4_XS', 23, 256, 136],
  ['BF16', 30, 1, 2],
  ['TQ1_0', 34, 256, 54],
  ['TQ2_0', 35, 256, 66],
  ['MXFP4', 39, 32, 17],
  ['NVFP4', 40, 64, 36],
  ['Q1_0', 41, 128, 18],
  ['Q2_0', 42, 64, 18],
];

/** GGUF types that can be decoded, by name. Source: ggml-org/ggml, include/ggml.h and src/ggml-common.h. */
export const ggufLayouts: ReadonlyMap<string, GgufTypeLayout> = new Map(
  rows.map(([name, id, elements, bytes]) => [name, { name, id, elements, bytes }]),
);

/** Types that have fused kernels on the native and WebGPU backends; the others decode on the reference. */
export const kernelTypes = ['F32', 'F16', 'BF16', 'Q4_0', 'Q4_1', 'Q5_0', 'Q8_0', 'Q4_K', 'Q6_K'] as const;

/** Layout of a type by name; throws an OptionError with the list of known ones. */
export function ggufLayout(type: string): GgufTypeLayout {
  const layout = ggufLayouts.get(type);
  if (!layout) throw new OptionError(`GGUF type '${type}' is not supported; supported are ${[...ggufLayouts.keys()].join(', ')}`);
  return layout;
}

/** Layout of a type by its id in the file. */
export function ggufLayoutById(id: number): GgufTypeLayout {
  for (const layout of ggufLayouts.values()) if (layout.id === id) return layout;
  throw new OptionError(`GGUF type ${id} is not supported; supported are ${[...ggufLayouts.keys()].join(', ')}`);
}

/** Bytes of one row of `inFeatures` weights; throws when they are not whole blocks. */
export function rowBytes(type: string, inFeatures: number): number {
  const { elements, bytes } = ggufLayout(type);
  if (inFeatures % elements !== 0) throw new OptionError(`${type} rows come in blocks of ${elements}: ${inFeatures} inputs do not fill them`);
  return (inFeatures / elements) * bytes;
}
