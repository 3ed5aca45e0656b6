import { fileSource, readGguf } from '@filigree/checkpoint';
import { ggufConfig } from '@filigree/transformer';
import type { Roofline } from '../measure/roofline.js';
import type { SpeedTest } from './speed-test.js';

/** What a model demands of the machine, from its file alone. */
export interface Demands {
  readonly fileBytes: number;
  /** Bytes of weights that every decoded token reads. */
  readonly weightBytes: number;
  /** Bytes of the keys and values of one position in one layer, in f16. */
  readonly rowBytes: number;
  /** Keys that each layer sees; 0: all. */
  readonly windows: readonly number[];
  /** Operations per prompt token in the layers' weights. */
  readonly matmulOperations: number;
  /** Operations of the output layer, which runs for the last token of a prompt only. */
  readonly outputOperations: number;
  /** Operations of one query against one key in one layer, over all heads. */
  readonly cellOperations: number;
  /** Positions the model was trained for. */
  readonly contextLength: number;
}

/** Reads the header of a GGUF file. */
export async function demandsOf(path: string): Promise<Demands> {
  const source = await fileSource(path);
  const file = await readGguf(source);
  const { heads, kvHeads, headDim, windows, contextLength } = ggufConfig(file, undefined);
  const tied = !file.find('output.weight');
  const output = file.tensor(tied ? 'token_embd.weight' : 'output.weight');
  // Without a tied output the embedding is only looked up.
  const read = file.tensors.filter(({ name }) => tied || name !== 'token_embd.weight');
  const layers = read.filter(({ name, shape }) => name.startsWith('blk.') && shape.length === 2);
  return {
    fileBytes: source.size,
    weightBytes: read.reduce((sum, { byteLength }) => sum + byteLength, 0),
    rowBytes: 2 * kvHeads * headDim * 2,
    windows,
    matmulOperations: 2 * layers.reduce((sum, { shape }) => sum + shape[0] * shape[1], 0),
    outputOperations: 2 * output.shape[0] * output.shape[1],
    cellOperations: 4 * heads * headDim,
    contextLength,
  };
}

/** The same model with a pattern that lets a query see at most so many keys. */
export function withWindow(demands: Demands, keys: number): Demands {
  return { ...demands, windows: demands.windows.map((window) => (window === 0 ? keys : Math.min(window, keys))) };
}

/** Query-key pairs over all layers of queries at the positions from `start` to before `end`. */
function cells(windows: readonly number[], start: number, end: number): number {
  let sum = 0;
  for (const window of windows) {
    for (let position = start; position < end; position++) sum += window === 0 ? position + 1 : Math.min(window, position + 1);
  }
  return sum;
}

/** Bytes that one decoded token reads, as the mean over the test: the weights, and the keys and values it sees. */
export function decodeBytes({ weightBytes, rowBytes, windows }: Demands, { tokens, context }: SpeedTest): number {
  return weightBytes + (rowBytes * cells(windows, context, context + tokens)) / tokens;
}

/** Tokens per second that reading those bytes once per token allows. */
export function decodeBound(demands: Demands, test: SpeedTest, { readGBps }: Roofline): number {
  return (readGBps * 1e9) / decodeBytes(demands, test);
}

/** Tokens per second of a prompt with matmuls at the 8-bit peak and causal attention at the f32 peak. */
export function prefillBound(demands: Demands, { tokens, context }: SpeedTest, { int8GOPs, f32GFLOPs }: Roofline): number {
  const matmul = demands.matmulOperations * tokens + demands.outputOperations;
  const attention = demands.cellOperations * cells(demands.windows, context, context + tokens);
  return tokens / (matmul / (int8GOPs * 1e9) + attention / (f32GFLOPs * 1e9));
}
