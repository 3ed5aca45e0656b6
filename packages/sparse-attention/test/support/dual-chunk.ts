import { fromArray, permute, reshape, ropeOp, type Backend, type Tensor } from '@filigree/core-tensor';
import type { DualChunkOptions, SelectContext } from '@filigree/sparse-attention';
import { contextOf, type ContextOptions } from './context.js';
import { span } from './mask-keys.js';
import type { PlantedPrompt } from './planted.js';

/** Head dim of the prompts. */
export const dim = 16;
const frequencies = span(0, dim / 2).map((pair) => 100 ** (-pair / (dim / 2)));

/** A row turned to a position. */
function turned(row: Float32Array, position: number): Float32Array {
  const out = Float32Array.from(row);
  for (const [pair, frequency] of frequencies.entries()) {
    const [a, b] = [row[pair], row[pair + dim / 2]];
    const [cosine, sine] = [Math.cos(position * frequency), Math.sin(position * frequency)];
    out[pair] = a * cosine - b * sine;
    out[pair + dim / 2] = b * cosine + a * sine;
  }
  return out;
}

const row = (rows: Float32Array, index: number): Float32Array => rows.subarray(index * dim, (index + 1) * dim);

/** The prompt as it lies in a cache: queries and keys turned to their own positions. */
function cached(prompt: PlantedPrompt): PlantedPrompt {
  const all = (rows: Float32Array): Float32Array => {
    const out = new Float32Array(rows.length);
    for (let index = 0; index < rows.length / dim; index++)
      out.set(turned(row(rows, index), index % prompt.length), index * dim);
    return out;
  };
  return { ...prompt, q: all(prompt.q), k: all(prompt.k) };
}

/** A step of a layer with rotary positions; queries and keys of the prompt are those before any rotation. */
export function contextWithRotation(backend: Backend, prompt: PlantedPrompt, options: ContextOptions): SelectContext {
  const context = contextOf(backend, [cached(prompt)], options);
  const inverseFrequencies = (): Tensor => fromArray(backend, frequencies, [dim / 2]);
  const rotate = (q: Tensor, by: Tensor): Tensor => {
    const bhld = context.queryLayout === 'bhld';
    const rows = bhld ? permute(q, [0, 2, 1, 3]) : q;
    const x = reshape(rows, rows.shape.slice(1));
    const y = ropeOp({ x, positions: by, inverseFrequencies: inverseFrequencies() }, {}).y;
    return bhld ? permute(reshape(y, rows.shape), [0, 2, 1, 3]) : reshape(y, rows.shape);
  };
  return { ...context, rotate };
}

/** Scores of the query at p with positions of chunks, from the definition. Not bounded, as the sparse companion asks: p mod c + c and p mod c + chunkSize. */
export function chunkScores(
  { q, k, heads, kvHeads, length }: PlantedPrompt,
  { chunkSize, localSize, originalMax }: DualChunkOptions,
  { head, p, bounded = true }: { readonly head: number; readonly p: number; readonly bounded?: boolean },
): number[] {
  const chunk = chunkSize - localSize;
  const first = Math.floor(head / (heads / kvHeads)) * length;
  const growth = originalMax === 0 ? 1 : Math.max(1, 0.1 * Math.log((p + 1) / originalMax) + 1);
  return span(0, p + 1).map((j) => {
    const apart = Math.floor(p / chunk) - Math.floor(j / chunk);
    const free = (p % chunk) + [0, chunk, chunkSize][Math.min(apart, 2)];
    const at = !bounded || apart === 0 ? free : apart === 1 ? Math.min(free, chunkSize) : chunkSize;
    const query = turned(row(q, head * length + p), at);
    const key = turned(row(k, first + j), j % chunk);
    return (growth * query.reduce((sum, value, channel) => sum + value * key[channel], 0)) / Math.sqrt(dim);
  });
}

/** Softmax of scores. */
export function softmaxOf(scores: readonly number[]): number[] {
  const largest = scores.reduce((a, b) => Math.max(a, b), -Infinity);
  const weights = scores.map((score) => Math.exp(score - largest));
  const sum = weights.reduce((a, b) => a + b, 0);
  return weights.map((weight) => weight / sum);
}
