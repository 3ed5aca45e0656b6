import { numberToF16, Random } from '@filigree/core-tensor';
import { decodeRow, rowBytes, type CheckpointPart, type ConvertedWeight } from '@filigree/quantization';

/** Packers as the writers of each format have them, written from their descriptions; plain and slow. */

export function f16(values: readonly number[], shape: readonly number[]): CheckpointPart {
  return { dtype: 'F16', shape, bytes: new Uint8Array(Uint16Array.from(values, numberToF16).buffer) };
}

export function f32(values: readonly number[], shape: readonly number[]): CheckpointPart {
  return { dtype: 'F32', shape, bytes: new Uint8Array(Float32Array.from(values).buffer) };
}

export function i32(values: ArrayLike<number>, shape: readonly number[]): CheckpointPart {
  return { dtype: 'I32', shape, bytes: new Uint8Array(Int32Array.from(values).buffer) };
}

export function u8(values: ArrayLike<number>, shape: readonly number[], dtype = 'U8'): CheckpointPart {
  return { dtype, shape, bytes: Uint8Array.from(values) };
}

/** Codes one after the other in words, from the lowest bit on. */
export function packed(codes: readonly number[], bits: number): number[] {
  const stream = codes.flatMap((code) => Array.from({ length: bits }, (_, bit) => (code >> bit) & 1));
  return Array.from({ length: Math.ceil(stream.length / 32) }, (_, word) =>
    stream.slice(32 * word, 32 * (word + 1)).reduce((value, bit, index) => value + bit * 2 ** index, 0),
  );
}

/** [rows][columns] → [columns][rows]. */
export function transposed<T>(matrix: readonly (readonly T[])[]): T[][] {
  return matrix[0].map((_, column) => matrix.map((row) => row[column]));
}

/** A random matrix of codes below 2^bits. */
export function randomCodes(seed: number, rows: number, columns: number, bits: number): number[][] {
  const random = new Random(seed);
  return Array.from({ length: rows }, () => Array.from({ length: columns }, () => random.nextInt(2 ** bits)));
}

/** Scales that are exact in half precision. */
export function randomScales(seed: number, rows: number, columns: number): number[][] {
  const random = new Random(seed);
  return Array.from({ length: rows }, () => Array.from({ length: columns }, () => (1 + random.nextInt(1000)) / 4096));
}

/** What a converted weight stands for, inputs in the order of x; −0 as 0. */
export function weightsOf({ type, outFeatures, inFeatures, blocks, inputOrder, scale = 1 }: ConvertedWeight): number[][] {
  return Array.from({ length: outFeatures }, (_, n) => {
    const row = new Float64Array(inFeatures);
    decodeRow(type, blocks, n * rowBytes(type, inFeatures), inFeatures, row);
    const weights: number[] = [];
    for (let k = 0; k < inFeatures; k++) weights[inputOrder ? inputOrder[k] : k] = scale * row[k] + 0;
    return weights;
  });
}
