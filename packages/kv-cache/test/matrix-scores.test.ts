import { createNativeBackend } from '@filigree/backend-native';
import { fromArray, OptionError, Random } from '@filigree/core-tensor';
import {
  capKv,
  compactor,
  headEntropies,
  leverageScores,
  snapKv,
  truncatedEntropy,
  unComp,
  type CapKvOptions,
} from '@filigree/kv-cache';
import { afterAll, describe, expect, it } from 'vitest';
import { cholesky, eigenvalues, inverseOf } from '../src/compress/linear-algebra.js';
import { kept, normals, numbers, randomLayer, scoresOf, withContext, type LayerData } from './support/compress-context.js';

const backend = createNativeBackend({ fallback: 'error' });
afterAll(() => {
  backend.dispose();
});

const shape = { heads: 4, kvHeads: 2, length: 48, dim: 8 };

/** A positive definite matrix [n, n]. */
function definite(random: Random, n: number): Float64Array {
  const rows = normals(random, n * n);
  return Float64Array.from({ length: n * n }, (_, index) => {
    const [row, column] = [Math.floor(index / n), index % n];
    let sum = row === column ? 0.1 : 0;
    for (let inner = 0; inner < n; inner++) sum += rows[inner * n + row] * rows[inner * n + column];
    return sum;
  });
}

function logDeterminant(a: Float64Array, n: number): number {
  const lower = cholesky(a, n) ?? new Float64Array(n * n);
  return Array.from({ length: n }, (_, index) => 2 * Math.log(lower[index * (n + 1)])).reduce((x, y) => x + y, 0);
}

describe('linear algebra on the host', () => {
  it.each([1, 2, 7, 33])('inverts a matrix of %s rows', (n) => {
    const a = definite(new Random(n), n);
    const inverse = inverseOf(cholesky(a, n) ?? new Float64Array(n * n), n);
    for (let index = 0; index < n * n; index++) {
      let sum = 0;
      for (let inner = 0; inner < n; inner++) sum += a[Math.floor(index / n) * n + inner] * inverse[inner * n + (index % n)];
      expect(Math.abs(sum - (index % (n + 1) === 0 ? 1 : 0))).toBeLessThan(1e-7);
    }
  });

  it('has no factor of what is not positive definite', () => {
    expect(cholesky([1, 2, 2, 1], 2)).toBeUndefined();
    expect(cholesky([NaN], 1)).toBeUndefined();
  });

  it.each([1, 3, 20])('finds eigenvalues of %s rows, which sum to the trace and multiply to the determinant', (n) => {
    const a = definite(new Random(50 + n), n);
    const values = eigenvalues(a, n);
    const trace = Array.from({ length: n }, (_, index) => a[index * (n + 1)]).reduce((x, y) => x + y, 0);
    expect(values.reduce((x, y) => x + y, 0)).toBeCloseTo(trace, 8);
    expect(values.reduce((sum, value) => sum + Math.log(value), 0)).toBeCloseTo(logDeterminant(a, n), 6);
    expect(Array.from(values)).toEqual(Array.from(values).sort((x, y) => y - x));
  });

  it('knows the eigenvalues of a diagonal matrix, and of none', () => {
    expect(Array.from(eigenvalues([1, 0, 0, 3], 2))).toEqual([3, 1]);
    expect(Array.from(eigenvalues([0, 0, 0, 0], 2))).toEqual([0, 0]);
  });
});

describe('CapKV', () => {
  const options: CapKvOptions = { budget: 6, tau: 5, future: 16, sinks: 0 };
  const { length, dim } = { length: 12, dim: 4 };
  const small = randomLayer(new Random(1), { heads: 2, kvHeads: 2, length, dim });

  /** I + Σ v·vᵀ of a head, weighted, without an entry. */
  const capacity = (v: Float32Array, weights: ArrayLike<number>, left?: number): Float64Array =>
    Float64Array.from({ length: dim * dim }, (_, index) => {
      let sum = index % (dim + 1) === 0 ? 1 : 0;
      for (let entry = 0; entry < length; entry++)
        if (entry !== left) sum += weights[entry] * v[entry * dim + Math.floor(index / dim)] * v[entry * dim + (index % dim)];
      return sum;
    });

  it('without a direction is the ridge leverage of values', async () => {
    const scores = await scoresOf(backend, capKv({ ...options, tau: 0 }), small);
    for (const head of [0, 1]) {
      const v = small.v.subarray(head * length * dim, (head + 1) * length * dim);
      const ones = new Float64Array(length).fill(1);
      const whole = logDeterminant(capacity(v, ones), dim);
      for (let entry = 0; entry < length; entry++) {
        const without = logDeterminant(capacity(v, ones, entry), dim);
        expect(Math.log(1 - scores[head * length + entry])).toBeCloseTo(without - whole, 4);
      }
    }
  });

  it('drops first what adds least to the determinant, weights included', async () => {
    const scores = await scoresOf(backend, capKv(options), small);
    // A score is w · vᵀ·A⁻¹·v; with values all alike but for weights the order is that of the weights.
    const alike = { ...small, v: new Float32Array(small.v.length).fill(0.5) };
    const weights = await scoresOf(backend, capKv(options), alike);
    for (const head of [0, 1]) {
      const v = small.v.subarray(head * length * dim, (head + 1) * length * dim);
      const own = weights.subarray(head * length, (head + 1) * length);
      const relative = own.map((weight) => weight / Math.max(...own));
      const losses = Array.from({ length }, (_, entry) => -logDeterminant(capacity(v, relative, entry), dim));
      const least = losses.indexOf(Math.min(...losses));
      const row = Array.from(scores.subarray(head * length, (head + 1) * length));
      expect(row.indexOf(Math.min(...row))).toBe(least);
    }
  });

  it('has scores within 0 and 1', async () => {
    for (const score of await scoresOf(backend, capKv(options), randomLayer(new Random(2), shape))) {
      expect(score).toBeGreaterThanOrEqual(0);
      expect(score).toBeLessThan(1);
    }
  });
});

describe('UNComp', () => {
  const rank = 32;

  /** Entropies of heads whose queries are given, [n][Hq · D]. */
  const entropies = (q: Float32Array, dim: number, heads: number, most = rank): Promise<number[]> => {
    const length = q.length / (dim * heads);
    const data = { ...randomLayer(new Random(3), { heads, kvHeads: heads, length, dim, queries: 1 }), q };
    return withContext(backend, data, 'all', (context) => headEntropies(context, most));
  };

  it('knows the entropy of spectra', () => {
    const diagonal = (values: readonly number[]): number[] =>
      Array.from({ length: 64 * 64 }, (_, index) => (index % 65 === 0 ? (values[index / 65] ?? 0) : 0));
    expect(truncatedEntropy(diagonal([1]), 64, 32)).toBe(0);
    expect(truncatedEntropy(diagonal(new Array<number>(4).fill(0.25)), 64, 32)).toBeCloseTo(1 / 3, 6);
    expect(truncatedEntropy(diagonal(new Array<number>(64).fill(1 / 64)), 64, 64)).toBeCloseTo(1, 6);
    expect(truncatedEntropy(diagonal(new Array<number>(64).fill(1 / 64)), 64, 32)).toBeCloseTo(0.5, 6);
    expect(truncatedEntropy([1], 1, 1)).toBe(0);
  });

  it('is high for queries in all directions, lower in four, and nothing in one', async () => {
    const random = new Random(4);
    const [length, dim] = [4000, 64];
    const basis = Array.from({ length: 4 }, () => normals(random, dim));
    const one = normals(random, dim);
    const rows = Array.from({ length }, () => {
      const parts = basis.map(() => random.nextNormal());
      const four = one.map((_, channel) => parts.reduce((sum, part, index) => sum + part * basis[index][channel], 0));
      const factor = random.nextNormal();
      return [normals(random, dim), four, one.map((value) => factor * value)];
    });
    const q = Float32Array.from(rows.flatMap((heads) => heads.flatMap((row) => Array.from(row))));
    const [all, four, single] = await entropies(q, dim, 3);
    expect(all).toBeGreaterThan(0.5);
    expect(all).toBeLessThan(0.6);
    expect((await entropies(q, dim, 3, 64))[0]).toBeGreaterThan(0.99);
    expect(four).toBeGreaterThan(0.3);
    expect(four).toBeLessThan(0.34);
    expect(Math.abs(single)).toBeLessThan(1e-3);
  });

  it('does not depend on the size of queries', async () => {
    const q = normals(new Random(5), 100 * 2 * 8);
    const one = await entropies(q, 8, 2);
    const larger = await entropies(
      q.map((value) => 50 * value),
      8,
      2,
    );
    for (const [head, entropy] of larger.entries()) expect(entropy).toBeCloseTo(one[head], 5);
  });

  const options = { budget: 16, rank, window: 8, kernel: 5, lower: 0.5 };
  /** The queries of head group 1 are all alike, but for their size. */
  function uneven(): LayerData {
    const data = randomLayer(new Random(6), shape);
    const { heads, dim, length } = shape;
    const direction = normals(new Random(7), dim);
    for (let row = 0; row < length; row++)
      for (const head of [2, 3])
        data.q.set(
          direction.map((value) => value * (1 + row / length)),
          (row * heads + head) * dim,
        );
    return data;
  }

  it('gives the half of the heads with the lower entropy half as much', async () => {
    // Beside the window 16 entries are to be divided: 10 and 2/3, and 5 and 1/3.
    expect((await kept(backend, unComp(options), uneven())).map((ids) => ids.length)).toEqual([19, 13]);
  });

  it('is SnapKV where all heads get the same', async () => {
    const snap = snapKv({ budget: 16, window: 8, kernel: 5, pool: 'avg', group: 'mean' });
    expect(await kept(backend, unComp({ ...options, lower: 1 }), uneven())).toEqual(await kept(backend, snap, uneven()));
  });

  it('gives heads that are full no more', async () => {
    const lists = await kept(backend, unComp({ ...options, budget: 46, lower: 0 }), uneven());
    expect(lists.map((ids) => ids.length)).toEqual([48, 44]);
  });

  it.each([{ rank: 0 }, { kernel: 4 }, { lower: -1 }, { lower: 2 }, { window: 0 }])('refuses %o', (wrong) => {
    expect(() => unComp({ ...options, ...wrong })).toThrow(OptionError);
  });
});

describe('Compactor', () => {
  const exact = { sketch: 0, seed: 1 };
  const leverages = (data: LayerData, options = exact): Promise<Float32Array[]> =>
    withContext(backend, data, 0, (context) => leverageScores(context, options));

  it('has leverages that sum to the rank of the keys', async () => {
    for (const row of await leverages(randomLayer(new Random(8), { ...shape, length: 400 })))
      expect(row.reduce((sum, value) => sum + value, 0)).toBeCloseTo(8, 1);
  });

  it('has a leverage of nearly one for a key that stands alone', async () => {
    const { dim, length } = shape;
    // Before rotation all keys are multiples of one, but for one.
    const common = normals(new Random(9), dim);
    const random = new Random(10);
    const rows = Float32Array.from({ length: length * 2 * dim }, (_, index) => common[index % dim] * 5);
    for (let row = 0; row < length * 2; row++) {
      const factor = random.nextNormal();
      for (let channel = 0; channel < dim; channel++) rows[row * dim + channel] *= factor;
    }
    rows.set(normals(new Random(11), dim, 5), 2 * 20 * dim);
    const data = randomLayer(new Random(12), shape);
    const rotated = await withContext(backend, data, 0, (context) =>
      numbers(() => {
        const positions = Int32Array.from({ length }, (_, entry) => entry);
        return context.rotate(fromArray(backend, rows, [length, 2, dim]), fromArray(backend, positions, [length], 'i32'));
      }),
    );
    const k = data.k.map((_, index) => {
      const [head, rest] = [Math.floor(index / (length * dim)), index % (length * dim)];
      return rotated[(Math.floor(rest / dim) * 2 + head) * dim + (rest % dim)];
    });
    const [first] = await leverages({ ...data, k });
    expect(first[20]).toBeGreaterThan(0.95);
    expect(Math.max(...first.filter((_, entry) => entry !== 20))).toBeLessThan(0.5);
  });

  it('mixes channels the same way for a seed', async () => {
    const data = randomLayer(new Random(13), shape);
    const one = await leverages(data, { sketch: 4, seed: 1 });
    expect(await leverages(data, { sketch: 4, seed: 1 })).toEqual(one);
    expect(await leverages(data, { sketch: 4, seed: 2 })).not.toEqual(one);
  });

  it('has a weight for leverage of its own, or the share that goes', async () => {
    const data = randomLayer(new Random(14), shape);
    const options = { budget: 12, sinks: 0, recent: 0, chunk: 20, sketch: 0, seed: 1 };
    const scores = (blend: number): Promise<Float32Array> => scoresOf(backend, compactor({ ...options, blend }), data);
    expect(await scores(-1)).toEqual(await scores(0.75));
    expect(await scores(0)).not.toEqual(await scores(0.75));
  });
});
