import {
  fromArray,
  reshape,
  rope,
  ropeFrequencies,
  scope,
  type Backend,
  type Random,
  type Tensor,
} from '@filigree/core-tensor';
import type { CompressContext, Compressor, Kept, ScoredCompressor } from '@filigree/kv-cache';

export interface LayerShape {
  readonly heads: number;
  readonly kvHeads: number;
  readonly length: number;
  readonly dim: number;
  /** Queries at the end that are there; default all. */
  readonly queries?: number;
}

/** Keys and values [Hk · S · D], queries [n · Hq · D], as a layer leaves them. */
export interface LayerData extends LayerShape {
  readonly k: Float32Array;
  readonly v: Float32Array;
  readonly q: Float32Array;
}

export function normals(random: Random, count: number, scale = 1): Float32Array {
  return Float32Array.from({ length: count }, () => scale * random.nextNormal());
}

export function randomLayer(random: Random, shape: LayerShape): LayerData {
  const { heads, kvHeads, length, dim, queries = length } = shape;
  return {
    ...shape,
    k: normals(random, kvHeads * length * dim),
    v: normals(random, kvHeads * length * dim),
    q: normals(random, queries * heads * dim),
  };
}

/**
 * Keys of 0.3 · N(0, 1) but for one per head, 11 · u with |u| = 1; queries of noise, but for the last `asking`, which are 11 · u + 0.1 · N(0, 1).
 */
export function planted(random: Random, shape: LayerShape, { needle, asking }: { needle: number; asking: number }): LayerData {
  const { heads, kvHeads, length, dim, queries = length } = shape;
  const data = { ...randomLayer(random, shape), k: normals(random, kvHeads * length * dim, 0.3) };
  for (let head = 0; head < kvHeads; head++) {
    const direction = normals(random, dim);
    const norm = Math.hypot(...direction);
    const key = direction.map((channel) => (11 * channel) / norm);
    data.k.set(key, (head * length + needle) * dim);
    for (let row = queries - asking; row < queries; row++)
      for (let member = 0; member < heads / kvHeads; member++) {
        const at = (row * heads + (head * heads) / kvHeads + member) * dim;
        data.q.set(
          key.map((channel) => channel + 0.1 * random.nextNormal()),
          at,
        );
      }
  }
  return data;
}

export interface ContextOptions {
  readonly layer?: number;
  readonly layers?: number;
  readonly outputWeight?: () => Tensor;
}

/** A context over the data for as long as `use` takes; its queries are the last ones that are asked for. */
export async function withContext<T>(
  backend: Backend,
  data: LayerData,
  queries: number | 'all',
  use: (context: CompressContext) => Promise<T>,
  { layer = 0, layers = 1, outputWeight }: ContextOptions = {},
): Promise<T> {
  const { heads, kvHeads, length, dim } = data;
  const available = data.q.length / (heads * dim);
  const asked = queries === 'all' ? available : Math.min(available, queries);
  const { inverseFrequencies } = ropeFrequencies({ base: 10_000, dims: dim - (dim % 2) });
  const k = fromArray(backend, data.k, [kvHeads, length, dim]);
  const v = fromArray(backend, data.v, [kvHeads, length, dim]);
  const q = fromArray(backend, data.q.slice((available - asked) * heads * dim), [1, asked, heads, dim]);
  const frequencies = fromArray(backend, inverseFrequencies, [inverseFrequencies.length]);
  const rotate = (x: Tensor, by: Tensor): Tensor => rope(x, by, frequencies);
  try {
    const scale = 1 / Math.sqrt(dim);
    const shape = { layer, layers, heads, kvHeads, length };
    const bias = Array.from({ length: kvHeads }, () => new Float32Array(length));
    return await use({ backend, ...shape, k, v, q, bias, scale, softcap: 0, rotate, outputWeight });
  } finally {
    for (const tensor of [k, v, q, frequencies]) tensor.dispose();
  }
}

/** What a compressor keeps of the data. */
export function kept(backend: Backend, compressor: Compressor, data: LayerData, options?: ContextOptions): Promise<Kept> {
  return withContext(backend, data, compressor.queries, (context) => compressor.compress(context), options);
}

/** The numbers of what is made in a scope. */
export async function numbers(make: () => Tensor): Promise<Float32Array> {
  const tensor = scope(() => {
    const made = make();
    return reshape(made, [made.size]);
  });
  try {
    return Float32Array.from(await tensor.readNumbers());
  } finally {
    tensor.dispose();
  }
}

/** Scores before heads of a group become one. */
export function scoresOf(backend: Backend, { parts }: ScoredCompressor, data: LayerData): Promise<Float32Array> {
  const { score, queries } = parts;
  return withContext(backend, data, queries, async (context) => {
    if (typeof score === 'function') return numbers(() => score(context));
    return Float32Array.from((await score.rows(context)).flatMap((row) => Array.from(row)));
  });
}

/** Causal attention of the last `rows` queries: what every entry receives, per query head. */
export function eagerColumns({ heads, kvHeads, length, dim, k, q }: LayerData, rows: number): Float64Array[] {
  const available = q.length / (heads * dim);
  return Array.from({ length: heads }, (_, head) => {
    const sums = new Float64Array(length);
    const kvHead = Math.floor(head / (heads / kvHeads));
    for (let row = available - rows; row < available; row++) {
      const seen = length - available + row + 1;
      const logits = Array.from({ length: seen }, (_logit, entry) => {
        let dot = 0;
        for (let channel = 0; channel < dim; channel++)
          dot += q[(row * heads + head) * dim + channel] * k[(kvHead * length + entry) * dim + channel];
        return dot / Math.sqrt(dim);
      });
      const most = logits.reduce((a, b) => Math.max(a, b), -Infinity);
      const total = logits.reduce((sum, logit) => sum + Math.exp(logit - most), 0);
      for (const [entry, logit] of logits.entries()) sums[entry] += Math.exp(logit - most) / total;
    }
    return sums;
  });
}
