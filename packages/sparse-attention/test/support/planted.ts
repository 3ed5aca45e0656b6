import { Random } from '@filigree/core-tensor';

/** What the heads that share one key-value head attend to. */
export interface Planting {
  /** Keys that every query sees. */
  readonly verticals?: readonly number[];
  /** Offsets o: the query at p sees the key at p − o. */
  readonly slashes?: readonly number[];
  /** Distances about a slash that it covers, falling off; default 1: it alone. Slashes of language models are wide, as rotations turn slowly. */
  readonly width?: number;
  /** Slowest wave that slashes are made of, in half turns per position; default 0. Means of many positions have nothing left of fast waves. */
  readonly slowest?: number;
  /** Pairs (query block, key block): queries of the first see keys of the second. */
  readonly blocks?: readonly (readonly [number, number])[];
  /** Positions per block of `blocks`; default 64. */
  readonly blockSize?: number;
  /** Score of a planted pair above the noise, natural logarithm; default 12. */
  readonly strength?: number;
}

export interface PlantedOptions {
  readonly seed: number;
  readonly length: number;
  readonly heads?: number;
  readonly kvHeads?: number;
  readonly dim?: number;
  /** Deviation of what is added to every element of q and k; scores of noise alone deviate by its square. Default 0.7. */
  readonly noise?: number;
  /** One per key-value head, cycled. */
  readonly plantings?: readonly Planting[];
}

/** One prompt of one layer: q [Hq, L, D], k and v [Hk, L, D]. */
export interface PlantedPrompt {
  readonly heads: number;
  readonly kvHeads: number;
  readonly length: number;
  readonly dim: number;
  readonly q: Float32Array;
  readonly k: Float32Array;
  readonly v: Float32Array;
}

/**
 * Queries and keys whose attention is known: noise, and per key-value head verticals (one channel that all queries and the planted keys share),
 * slashes (queries carry cos and sin of ω(p − o), keys of ωj, so that their product peaks at j = p − o) and blocks (a random code per pair).
 */
export function planted(options: PlantedOptions): PlantedPrompt {
  const { seed, length, heads = 2, kvHeads = 1, dim = 32, noise = 0.7, plantings = [{}] } = options;
  const normals = (count: number, stream: number, deviation: number): Float32Array => {
    const random = new Random(seed, stream);
    return Float32Array.from({ length: count }, () => deviation * random.nextNormal());
  };
  const prompt: PlantedPrompt = {
    heads,
    kvHeads,
    length,
    dim,
    q: normals(heads * length * dim, 0, noise),
    k: normals(kvHeads * length * dim, 1, noise),
    v: normals(kvHeads * length * dim, 2, 1),
  };
  for (let kvHead = 0; kvHead < kvHeads; kvHead++) {
    const random = new Random(seed, 3 + kvHead);
    const group = heads / kvHeads;
    const key = (position: number): Float32Array => rowOf(prompt.k, kvHead * length + position, dim);
    const queries = (position: number): Float32Array[] =>
      Array.from({ length: group }, (_, index) => rowOf(prompt.q, (kvHead * group + index) * length + position, dim));
    plant(plantings[kvHead % plantings.length], { length, dim, random, key, queries });
  }
  return prompt;
}

function rowOf(data: Float32Array, row: number, dim: number): Float32Array {
  return data.subarray(row * dim, (row + 1) * dim);
}

interface Head {
  readonly length: number;
  readonly dim: number;
  readonly random: Random;
  key(position: number): Float32Array;
  queries(position: number): Float32Array[];
}

function plant(planting: Planting, head: Head): void {
  const { verticals = [], slashes = [], width = 1, slowest = 0, blocks = [], blockSize = 64, strength = 12 } = planting;
  // A product of rows becomes `strength` once it is divided by √D.
  const product = strength * Math.sqrt(head.dim);
  if (verticals.length > 0) plantVerticals(verticals, Math.sqrt(product), head);
  if (slashes.length > 0) plantSlashes(slashes, { width, slowest, product }, head);
  for (const pair of blocks) plantBlock(pair, blockSize, Math.sqrt(product / head.dim), head);
}

function plantVerticals(verticals: readonly number[], amplitude: number, { length, key, queries }: Head): void {
  for (const position of verticals) if (position < length) key(position)[0] += amplitude;
  for (let position = 0; position < length; position++) for (const query of queries(position)) query[0] += amplitude;
}

function plantSlashes(
  slashes: readonly number[],
  { width, slowest, product }: { readonly width: number; readonly slowest: number; readonly product: number },
  { length, dim, random, key, queries }: Head,
): void {
  const waves = dim / 2 - 1;
  const amplitude = Math.sqrt(product / waves);
  for (let wave = 0; wave < waves; wave++) {
    const [frequency, at] = [(Math.PI * (slowest + (1 - slowest) * random.nextFloat())) / width, 2 + 2 * wave];
    for (let position = 0; position < length; position++) {
      key(position)[at] += amplitude * Math.cos(frequency * position);
      key(position)[at + 1] += amplitude * Math.sin(frequency * position);
      for (const query of queries(position)) {
        for (const offset of slashes) {
          query[at] += amplitude * Math.cos(frequency * (position - offset));
          query[at + 1] += amplitude * Math.sin(frequency * (position - offset));
        }
      }
    }
  }
}

function plantBlock(
  [queryBlock, keyBlock]: readonly [number, number],
  size: number,
  amplitude: number,
  { length, dim, random, key, queries }: Head,
): void {
  const code = Float32Array.from({ length: dim }, () => amplitude * random.nextNormal());
  const add = (row: Float32Array): void => {
    for (let channel = 0; channel < dim; channel++) row[channel] += code[channel];
  };
  for (let step = 0; step < size; step++) {
    if (queryBlock * size + step < length) queries(queryBlock * size + step).forEach(add);
    if (keyBlock * size + step < length) add(key(keyBlock * size + step));
  }
}
