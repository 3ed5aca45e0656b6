import { createNativeBackend } from '@filigree/backend-native';
import { fromArray, Random, type Tensor } from '@filigree/core-tensor';
import {
  expectedAttention,
  expectedLogits,
  keyDiff,
  knorm,
  lagKv,
  type CompressContext,
  type ScoredCompressor,
} from '@filigree/kv-cache';
import { afterAll, describe, expect, it } from 'vitest';
import {
  kept,
  normals,
  numbers,
  randomLayer,
  scoresOf as scored,
  withContext,
  type LayerData,
} from './support/compress-context.js';

const backend = createNativeBackend({ fallback: 'error' });
afterAll(() => {
  backend.dispose();
});

const shape = { heads: 4, kvHeads: 2, length: 48, dim: 8 };
const scoresOf = (compressor: ScoredCompressor, data: LayerData): Promise<Float32Array> => scored(backend, compressor, data);

function expectClose(found: ArrayLike<number>, expected: ArrayLike<number>, tolerance: number): void {
  expect(found.length).toBe(expected.length);
  for (let index = 0; index < found.length; index++)
    expect(Math.abs(found[index] - expected[index])).toBeLessThanOrEqual(tolerance);
}

/** Rows [n, D] turned by one random orthogonal matrix. */
function turned(rows: Float32Array, dim: number, random: Random): Float32Array {
  const basis: number[][] = [];
  while (basis.length < dim) {
    let row = Array.from(normals(random, dim));
    for (const other of basis) {
      const dot = row.reduce((sum, value, index) => sum + value * other[index], 0);
      row = row.map((value, index) => value - dot * other[index]);
    }
    const norm = Math.hypot(...row);
    basis.push(row.map((value) => value / norm));
  }
  return rows.map((_, index) => {
    const start = index - (index % dim);
    return basis[index % dim].reduce((sum, value, channel) => sum + value * rows[start + channel], 0);
  });
}

describe('Expected Attention', () => {
  const options = { budget: 16, future: 1, sinks: 4, covariance: true, valueNorm: true, eps: 0 };
  const { heads, kvHeads, length, dim } = shape;

  /** A layer whose queries are those given, before they are rotated to their positions: [n][Hq · D]. */
  async function withQueries(rows: readonly Float32Array[], data: LayerData): Promise<LayerData> {
    const q = Float32Array.from(rows.flatMap((row) => Array.from(row)));
    const rotated = await withContext(backend, { ...data, q }, 'all', (context) =>
      numbers(() => {
        const positions = Int32Array.from(rows, (_, index) => length - rows.length + index);
        return context.rotate(
          fromArray(backend, q, [rows.length, heads, dim]),
          fromArray(backend, positions, [rows.length], 'i32'),
        );
      }),
    );
    return { ...data, q: rotated };
  }

  const logits = (data: LayerData, future: number, covariance = true): Promise<Float32Array> =>
    withContext(backend, data, 'all', (context) => numbers(() => expectedLogits(context, { future, sinks: 4, covariance })));

  /** Query heads [Hq, D] at a position, as the model rotates them. */
  const at = (context: CompressContext, query: Float32Array, position: number): Tensor =>
    context.rotate(fromArray(backend, query, [1, heads, dim]), fromArray(backend, [position], [1], 'i32'));

  const dots = (query: Float32Array, { k }: LayerData): number[] =>
    Array.from({ length: heads * (length - 4) }, (_, index) => {
      const [head, entry] = [Math.floor(index / (length - 4)), 4 + (index % (length - 4))];
      const key = (Math.floor(head / (heads / kvHeads)) * length + entry) * dim;
      let sum = 0;
      for (let channel = 0; channel < dim; channel++) sum += query[head * dim + channel] * k[key + channel];
      return sum / Math.sqrt(dim);
    });

  it('of equal queries is what they attend to at the next position', async () => {
    const query = normals(new Random(1), heads * dim);
    const data = await withQueries(
      Array.from({ length }, () => query),
      randomLayer(new Random(2), shape),
    );
    const next = await withContext(backend, data, 0, (context) => numbers(() => at(context, query, length)));
    const expected = dots(next, data);
    expectClose(await logits(data, 1), expected, 1e-4);
    const found = await scoresOf(expectedAttention({ ...options, valueNorm: false }), data);
    for (let head = 0; head < heads; head++) {
      const row = expected.slice(head * (length - 4), (head + 1) * (length - 4)).map(Math.exp);
      const total = row.reduce((a, b) => a + b, 0);
      const start = head * length + 4;
      expectClose(
        found.subarray(start, start + length - 4),
        row.map((value) => value / total),
        1e-5,
      );
    }
  });

  it('averages over the positions of the future', async () => {
    const query = normals(new Random(3), heads * dim);
    const data = await withQueries(
      Array.from({ length }, () => query),
      randomLayer(new Random(4), shape),
    );
    const sums = new Float64Array(heads * (length - 4));
    for (let step = 0; step < 100; step++) {
      const next = await withContext(backend, data, 0, (context) => numbers(() => at(context, query, length + step)));
      for (const [index, dot] of dots(next, data).entries()) sums[index] += dot / 100;
    }
    expectClose(await logits(data, 100), sums, 1e-4);
  });

  it('is the logarithm of the average exponential over normal queries', async () => {
    const random = new Random(5);
    const mixing = normals(random, dim * dim, 0.3);
    const mean = normals(random, heads * dim, 0.5);
    const draw = (): Float32Array => {
      const noise = normals(random, heads * dim);
      return mean.map((value, index) => {
        const [head, row] = [Math.floor(index / dim), index % dim];
        let sum = value;
        for (let channel = 0; channel < dim; channel++) sum += mixing[row * dim + channel] * noise[head * dim + channel];
        return sum;
      });
    };
    // More queries than entries are not possible: the layer has as many as its prompt.
    const long = { ...shape, length: 4096 };
    const layer = randomLayer(new Random(6), long);
    const data = { ...layer, k: layer.k.map((value) => 0.7 * value) };
    const rows = Array.from({ length: long.length }, draw);
    const q = Float32Array.from(rows.flatMap((row) => Array.from(row)));
    await withContext(backend, { ...data, q }, 'all', async (context) => {
      const rotated = await numbers(() => {
        const positions = Int32Array.from(rows, (_, index) => index);
        return context.rotate(
          fromArray(backend, q, [rows.length, heads, dim]),
          fromArray(backend, positions, [rows.length], 'i32'),
        );
      });
      const z = await withContext(backend, { ...data, q: rotated }, 'all', (inner) =>
        numbers(() => expectedLogits(inner, { future: 1, sinks: 0, covariance: true })),
      );
      const samples = 2000;
      const draws = await numbers(() => {
        const fresh = Float32Array.from(Array.from({ length: samples }, draw).flatMap((row) => Array.from(row)));
        const end = fromArray(backend, new Int32Array(samples).fill(long.length), [samples], 'i32');
        return context.rotate(fromArray(backend, fresh, [samples, heads, dim]), end);
      });
      for (const [head, entry] of [
        [0, 5],
        [1, 100],
        [2, 2000],
        [3, 4095],
      ]) {
        const key = (Math.floor(head / 2) * long.length + entry) * dim;
        const exps = Array.from({ length: samples }, (_, sample) => {
          let dot = 0;
          for (let channel = 0; channel < dim; channel++)
            dot += draws[(sample * heads + head) * dim + channel] * data.k[key + channel];
          return Math.exp(dot / Math.sqrt(dim));
        });
        const average = exps.reduce((a, b) => a + b, 0) / samples;
        const variance = exps.reduce((sum, value) => sum + (value - average) ** 2, 0) / (samples - 1);
        // Queries of the prompt are a sample too, of about the same size.
        const error = Math.sqrt(variance / samples) * (1 + Math.sqrt(samples / long.length));
        expect(Math.abs(Math.exp(z[head * long.length + entry]) - average)).toBeLessThan(3 * error);
      }
    });
  });

  it('does not depend on the order of the queries', async () => {
    const random = new Random(7);
    const rows = Array.from({ length }, () => normals(random, heads * dim));
    const layer = randomLayer(new Random(8), shape);
    const one = await scoresOf(expectedAttention(options), await withQueries(rows, layer));
    const reversed = [...rows.slice(0, 4), ...rows.slice(4).reverse()];
    expectClose(await scoresOf(expectedAttention(options), await withQueries(reversed, layer)), one, 1e-5);
  });
});

describe('KeyDiff', () => {
  const options = { budget: 6, sinks: 0, recent: 0 };

  it('lets duplicates go before what is unique', async () => {
    const { length, dim } = shape;
    const common = normals(new Random(9), dim);
    const random = new Random(10);
    const data = randomLayer(new Random(11), shape);
    const unique = [3, 10, 17, 20, 33, 47];
    for (let row = 0; row < 2 * length; row++)
      data.k.set(unique.includes(row % length) ? normals(random, dim) : common, row * dim);
    for (const ids of await kept(backend, keyDiff(options), data)) expect(Array.from(ids)).toEqual(unique);
  });

  it('is the same for longer keys, and for turned ones', async () => {
    const data = randomLayer(new Random(12), shape);
    const one = await scoresOf(keyDiff(options), data);
    expectClose(await scoresOf(keyDiff(options), { ...data, k: data.k.map((value) => 37 * value) }), one, 1e-6);
    expectClose(await scoresOf(keyDiff(options), { ...data, k: turned(data.k, shape.dim, new Random(13)) }), one, 1e-5);
    for (const score of one) expect(Math.abs(score)).toBeLessThanOrEqual(1 + 1e-6);
  });

  it('has a score for keys of zero', async () => {
    const data = randomLayer(new Random(14), shape);
    data.k.fill(0, 0, 3 * shape.dim);
    expect(Array.from((await scoresOf(keyDiff(options), data)).subarray(0, 3), Math.abs)).toEqual([0, 0, 0]);
  });
});

describe('Knorm', () => {
  it('keeps the shortest keys, however they are turned', async () => {
    const data = randomLayer(new Random(15), shape);
    const { length, dim } = shape;
    const compressor = knorm({ budget: 5, sinks: 0, recent: 0 });
    const lists = await kept(backend, compressor, data);
    for (const [head, ids] of lists.entries()) {
      const norms = Array.from({ length }, (_, entry) =>
        Math.hypot(...data.k.subarray((head * length + entry) * dim, (head * length + entry + 1) * dim)),
      );
      const expected = [...norms.keys()].sort((a, b) => norms[a] - norms[b]).slice(0, 5);
      expect(Array.from(ids)).toEqual(expected.sort((a, b) => a - b));
    }
    const k = turned(data.k, dim, new Random(16));
    expect(await kept(backend, compressor, { ...data, k })).toEqual(lists);
  });
});

describe('LagKV', () => {
  const options = { budget: 20, sinks: 4, lag: 8 };

  it('is the formula, ranked within blocks', async () => {
    const data = randomLayer(new Random(17), { ...shape, heads: 1, kvHeads: 1 });
    const { dim, length } = shape;
    // Four blocks that have a next one, from the sinks on; the fifth and the four entries behind it come first.
    const part = (x: Float32Array, block: number): number[] => {
      const row = (entry: number): Float32Array => x.subarray(entry * dim, (entry + 1) * dim);
      const [own, next] = [0, 8].map((more) => Array.from({ length: 8 }, (_, index) => row(4 + block * 8 + more + index)));
      const deviations = own.map((values) => {
        const scaled = Array.from(values, (value, channel) => {
          const range = next.map((other) => other[channel]);
          return (value - Math.min(...range)) / (Math.max(...range) - Math.min(...range));
        });
        const mean = scaled.reduce((a, b) => a + b, 0) / dim;
        return Math.sqrt(scaled.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (dim - 1));
      });
      const total = deviations.reduce((sum, value) => sum + Math.exp(value), 0);
      return deviations.map((value) => Math.exp(value) / total);
    };
    const scores = await scoresOf(lagKv(options), data);
    for (let block = 0; block < 4; block++) {
      const values = part(data.v, block);
      const means = part(data.k, block).map((value, index) => (value + values[index]) / 2);
      const ranks = means.map((mean) => means.filter((other) => other < mean).length / 8);
      expectClose(scores.subarray(4 + block * 8, 12 + block * 8), ranks, 1e-6);
    }
    for (let entry = 36; entry < length; entry++) expect(scores[entry]).toBeGreaterThanOrEqual(1);
  });

  it('keeps the same share of every block', async () => {
    const data = randomLayer(new Random(18), shape);
    // Sinks, the last block and what follows are 16 entries; 8 are left for the four blocks.
    for (const ids of await kept(backend, lagKv({ ...options, budget: 24 }), data)) {
      const blocks = [0, 1, 2, 3].map((block) => ids.filter((id) => Math.floor((id - 4) / 8) === block).length);
      expect(blocks).toEqual([2, 2, 2, 2]);
    }
  });

  it('is the same for channels that are stretched and moved', async () => {
    const data = randomLayer(new Random(19), shape);
    const { dim } = shape;
    const moved = (x: Float32Array): Float32Array =>
      x.map((value, index) => (1 + (index % dim)) * value - 3 * (index % dim) + 1);
    const one = await kept(backend, lagKv(options), data);
    expect(await kept(backend, lagKv(options), { ...data, k: moved(data.k), v: moved(data.v) })).toEqual(one);
  });

  it('passes over channels that do not vary', async () => {
    const data = randomLayer(new Random(20), shape);
    for (let index = 0; index < data.k.length; index += shape.dim) data.k[index] = 5;
    for (const score of await scoresOf(lagKv(options), data)) expect(Number.isFinite(score)).toBe(true);
  });

  it('keeps the newest entries of a prompt of less than two blocks', async () => {
    const data = randomLayer(new Random(21), { ...shape, length: 19 });
    for (const ids of await kept(backend, lagKv({ ...options, budget: 7 }), data))
      expect(Array.from(ids)).toEqual([0, 1, 2, 3, 16, 17, 18]);
  });
});
