import { fileSource, readGguf } from '@filigree/checkpoint';
import type { Roofline } from '../measure/roofline.js';

/** What a model demands of the machine, from its file alone. */
export interface Demands {
  readonly fileBytes: number;
  /** Bytes of weights that every decoded token reads. */
  readonly decodeBytes: number;
  /** Operations per prompt token in weights that are stored in blocks, and in f32. */
  readonly matmulOperations: number;
  /** Operations of the output layer, which runs for the last token of a prompt only. */
  readonly outputOperations: number;
  /** Operations of one query against one key, over all layers and heads. */
  readonly cellOperations: number;
}

/** Reads the header of a GGUF file. */
export async function demandsOf(path: string): Promise<Demands> {
  const source = await fileSource(path);
  const file = await readGguf(source);
  const tied = !file.find('output.weight');
  const output = file.tensor(tied ? 'token_embd.weight' : 'output.weight');
  // Without a tied output the embedding is only looked up.
  const read = file.tensors.filter(({ name }) => tied || name !== 'token_embd.weight');
  const layers = read.filter(({ name, shape }) => name.startsWith('blk.') && shape.length === 2);
  const architecture = file.string('general.architecture') ?? '';
  const number = (key: string): number => file.number(`${architecture}.${key}`) ?? 0;
  const heads = number('attention.head_count');
  const headDim = number('attention.key_length') || number('embedding_length') / heads;
  return {
    fileBytes: source.size,
    decodeBytes: read.reduce((sum, { byteLength }) => sum + byteLength, 0),
    matmulOperations: 2 * layers.reduce((sum, { shape }) => sum + shape[0] * shape[1], 0),
    outputOperations: 2 * output.shape[0] * output.shape[1],
    cellOperations: 4 * heads * headDim * number('block_count'),
  };
}

/** Tokens per second that reading the weights once per token allows. */
export function decodeBound({ decodeBytes }: Demands, { readGBps }: Roofline): number {
  return (readGBps * 1e9) / decodeBytes;
}

/** Tokens per second of a prompt with matmuls at the 8-bit peak and causal attention at the f32 peak. */
export function prefillBound(demands: Demands, { int8GOPs, f32GFLOPs }: Roofline, tokens: number): number {
  const cells = (tokens * (tokens + 1)) / 2;
  const matmul = demands.matmulOperations * tokens + demands.outputOperations;
  return tokens / (matmul / (int8GOPs * 1e9) + (demands.cellOperations * cells) / (f32GFLOPs * 1e9));
}
