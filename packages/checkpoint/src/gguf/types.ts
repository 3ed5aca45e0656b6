/** An element type of GGUF: blocks of `blockSize` elements along the innermost dimension, `blockBytes` bytes each. */
export interface GgufTypeInfo {
  /** The number that stands in the file. */
  readonly id: number;
  readonly name: string;
  readonly blockSize: number;
  readonly blockBytes: number;
}

const rows = [
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
  ['I8', 24, 1, 1],
  ['I16', 25, 1, 2],
  ['I32', 26, 1, 4],
  ['I64', 27, 1, 8],
  ['F64', 28, 1, 8],
  ['BF16', 30, 1, 2],
  ['TQ1_0', 34, 256, 54],
  ['TQ2_0', 35, 256, 66],
  ['MXFP4', 39, 32, 17],
  ['NVFP4', 40, 64, 36],
  ['Q1_0', 41, 128, 18],
  ['Q2_0', 42, 64, 18],
] as const;

/** Name of an element type, as llama.cpp prints it. */
export type GgufType = (typeof rows)[number][0];

/**
 * The element types a GGUF file may hold here. Left out on purpose, so that reading them is a typed error: the codebook types
 * IQ1–IQ3, the activation formats Q8_1 and Q8_K, and ids that were removed from the format (4, 5, 31–33, 36–38).
 */
export const ggufTypes: Readonly<Record<GgufType, GgufTypeInfo & { readonly name: GgufType }>> = Object.freeze(
  Object.fromEntries(rows.map(([name, id, blockSize, blockBytes]) => [name, { id, name, blockSize, blockBytes }])),
) as Record<GgufType, GgufTypeInfo & { readonly name: GgufType }>;

const byId = new Map<number, GgufType>(rows.map(([name, id]) => [id, name]));

/** The type with this id, undefined when it is not in {@link ggufTypes}. */
export function ggufTypeOf(id: number): GgufType | undefined {
  return byId.get(id);
}

/** Bytes of `shape` stored as `type`; undefined when a row is not whole blocks or the size is no safe integer. */
export function ggufByteLength(type: GgufType, shape: readonly number[]): number | undefined {
  const { blockSize, blockBytes } = ggufTypes[type];
  const columns = shape.at(-1) ?? 1;
  if (columns % blockSize !== 0) return undefined;
  let bytes = (columns / blockSize) * blockBytes;
  for (const size of shape.slice(0, -1)) {
    bytes *= size;
    if (!Number.isSafeInteger(bytes)) return undefined;
  }
  return Number.isSafeInteger(bytes) ? bytes : undefined;
}
