import { createNativeBackend } from '@filigree/backend-native';
import { fromArray, Random } from '@filigree/core-tensor';
import {
  adaptive,
  chunkUnits,
  compressor,
  critical,
  h2o,
  shared,
  snapKv,
  tova,
  type ScoredCompressor,
} from '@filigree/kv-cache';
import { afterAll, describe, expect, it } from 'vitest';
import { eagerColumns, kept, normals, planted, randomLayer, scoresOf, type LayerData } from './support/compress-context.js';

const backend = createNativeBackend({ fallback: 'error' });
afterAll(() => {
  backend.dispose();
});

const shape = { heads: 4, kvHeads: 2, length: 60, dim: 8 };
const votes = { window: 4, kernel: 1, pool: 'avg', group: 'mean' };

const scores = (compressor: ScoredCompressor, data: LayerData): Promise<Float32Array> => scoresOf(backend, compressor, data);

function expectClose(found: ArrayLike<number>, expected: ArrayLike<number>, tolerance = 1e-5): void {
  expect(found.length).toBe(expected.length);
  for (let index = 0; index < found.length; index++)
    expect(Math.abs(found[index] - expected[index])).toBeLessThanOrEqual(tolerance * Math.max(1, Math.abs(expected[index])));
}

/** Ids of the largest numbers, ascending. */
function best(row: readonly number[], count: number): number[] {
  return row
    .map((score, id) => ({ score, id }))
    .sort((a, b) => b.score - a.score || a.id - b.id)
    .slice(0, count)
    .map(({ id }) => id)
    .sort((a, b) => a - b);
}

const large = { heads: 4, kvHeads: 2, length: 8192, dim: 64, queries: 64 };
const needle = 3000;

describe('SnapKV', () => {
  it('keeps the needle that the end of the prompt asks for, among 64 of 8192', async () => {
    const data = planted(new Random(1), large, { needle, asking: 4 });
    for (const ids of await kept(backend, snapKv({ ...votes, budget: 64, window: 32, kernel: 5 }), data))
      expect(ids).toContain(needle);
  });

  it('loses a needle that the window looks away from, whatever is asked later', async () => {
    const data = planted(new Random(2), large, { needle, asking: 32 });
    const away = { ...data, q: data.q.map((channel) => -channel) };
    for (const ids of await kept(backend, snapKv({ ...votes, budget: 64, window: 32, kernel: 5 }), away))
      expect(ids).not.toContain(needle);
  });

  it('scores by the attention of the window', async () => {
    const data = randomLayer(new Random(3), shape);
    expectClose(
      await scores(snapKv({ ...votes, budget: 10 }), data),
      eagerColumns(data, 4).flatMap((row) => Array.from(row)),
    );
  });
});

describe('H2O', () => {
  const options = { budget: 12, recent: 0.5, normalizeByAge: false, valueNorm: false };

  it('scores by the attention of all queries', async () => {
    const data = randomLayer(new Random(4), shape);
    const expected = eagerColumns(data, shape.length);
    expectClose(
      await scores(h2o(options), data),
      expected.flatMap((row) => Array.from(row)),
    );
    const lists = await kept(backend, h2o(options), data);
    for (const [head, ids] of lists.entries()) {
      const sums = Array.from(expected[2 * head], (value, entry) => value + expected[2 * head + 1][entry]).slice(0, 54);
      expect(Array.from(ids)).toEqual([...best(sums, 6), 54, 55, 56, 57, 58, 59]);
    }
  });

  it('divides by the number of queries that could see an entry', async () => {
    const data = randomLayer(new Random(5), shape);
    const expected = eagerColumns(data, shape.length).map((row) => row.map((sum, entry) => sum / (shape.length - entry)));
    expectClose(
      await scores(h2o({ ...options, normalizeByAge: true }), data),
      expected.flatMap((row) => Array.from(row)),
    );
  });

  it('multiplies by the length of the value', async () => {
    const data = randomLayer(new Random(6), shape);
    const { dim, length } = shape;
    const expected = eagerColumns(data, length).flatMap((row, head) =>
      Array.from(row, (sum, entry) => {
        const at = (Math.floor(head / 2) * length + entry) * dim;
        return sum * Math.hypot(...data.v.subarray(at, at + dim));
      }),
    );
    expectClose(await scores(h2o({ ...options, valueNorm: true }), data), expected);
  });

  it('keeps an entry that is used again and again among ten times its budget of noise', async () => {
    const length = 400;
    const data = planted(new Random(7), { ...shape, length, dim: 64 }, { needle: 20, asking: 100 });
    for (const ids of await kept(backend, h2o({ ...options, budget: 40 }), data)) expect(ids).toContain(20);
  });

  it('keeps the newest entries alone where they are the budget', async () => {
    const data = randomLayer(new Random(8), shape);
    for (const ids of await kept(backend, h2o({ ...options, budget: 3, recent: 8 }), data))
      expect(Array.from(ids)).toEqual([57, 58, 59]);
  });
});

describe('TOVA', () => {
  it('keeps what the last query attends to on average over all heads, one list for all', async () => {
    const data = randomLayer(new Random(9), shape);
    const columns = eagerColumns(data, 1);
    const means = Array.from({ length: shape.length }, (_, entry) => columns.reduce((sum, row) => sum + row[entry], 0) / 4);
    const lists = await kept(backend, tova({ budget: 9 }), data);
    for (const ids of lists) expect(Array.from(ids)).toEqual(best(means, 9));
  });

  it('keeps the largest logits of a query that all heads share', async () => {
    const { length, dim } = shape;
    const random = new Random(10);
    const query = normals(random, dim);
    const keys = normals(random, length * dim);
    const repeated = (part: Float32Array, count: number): Float32Array =>
      Float32Array.from({ length: part.length * count }, (_, index) => part[index % part.length]);
    const data = { ...shape, k: repeated(keys, 2), v: repeated(keys, 2), q: repeated(query, length * 4) };
    const logits = Array.from({ length }, (_, entry) =>
      query.reduce((sum, channel, index) => sum + channel * keys[entry * dim + index], 0),
    );
    for (const ids of await kept(backend, tova({ budget: 11 }), data)) expect(Array.from(ids)).toEqual(best(logits, 11));
  });
});

describe('ChunkKV', () => {
  it('with chunks of one entry keeps what heads score most together', async () => {
    const data = randomLayer(new Random(11), shape);
    const inner = snapKv({ ...votes, budget: 12 });
    const { parts } = inner;
    const columns = eagerColumns(data, 4).map((row) => Float32Array.from(row.slice(0, 56)));
    const expected = shared(columns, 8)[0];
    for (const ids of await kept(backend, chunkUnits(inner, { length: 1 }), data))
      expect(Array.from(ids)).toEqual([...expected, 56, 57, 58, 59]);
    expect(chunkUnits(inner, { length: 5 }).id).toBe(parts.id);
  });

  it('keeps the neighbours of a needle', async () => {
    const data = planted(new Random(12), { ...shape, length: 400, dim: 64 }, { needle: 47, asking: 2 });
    for (const ids of await kept(backend, chunkUnits(snapKv({ ...votes, budget: 24 }), { length: 20 }), data))
      expect(Array.from(ids)).toEqual([...Array.from({ length: 20 }, (_, index) => 40 + index), 396, 397, 398, 399]);
  });
});

describe('CriticalKV', () => {
  const inner = snapKv({ ...votes, budget: 20 });
  const hidden = 6;
  const weight = (data: Float32Array) => () => fromArray(backend, data, [shape.heads, shape.dim, hidden]);

  it('is the inner method when the first stage is all', async () => {
    const data = randomLayer(new Random(13), shape);
    const options = { outputWeight: weight(normals(new Random(14), 4 * 8 * hidden)) };
    expect(await kept(backend, critical(inner, { eps: 1e-4, firstStage: 1 }), data, options)).toEqual(
      await kept(backend, inner, data),
    );
  });

  it('is the inner method when all values do the same', async () => {
    const random = randomLayer(new Random(15), shape);
    const data = { ...random, v: new Float32Array(random.v.length).fill(0.5) };
    const options = { outputWeight: weight(normals(new Random(16), 4 * 8 * hidden)) };
    expect(await kept(backend, critical(inner, { eps: 1e-4, firstStage: 0.5 }), data, options)).toEqual(
      await kept(backend, inner, data),
    );
  });

  it('takes what does most to the output in its second stage', async () => {
    const data = randomLayer(new Random(17), shape);
    const { heads, kvHeads, length, dim } = shape;
    const matrix = normals(new Random(18), heads * dim * hidden);
    const columns = eagerColumns(data, 4);
    const lists = await kept(backend, critical(inner, { eps: 1e-4, firstStage: 0.5 }), data, { outputWeight: weight(matrix) });
    for (let head = 0; head < kvHeads; head++) {
      const open = Array.from({ length: length - 4 }, (_, entry) => entry);
      const votesOf = open.map((entry) => (columns[2 * head][entry] + columns[2 * head + 1][entry]) / 2);
      const sizes = open.map((entry) => {
        let sum = 0;
        for (const member of [2 * head, 2 * head + 1])
          for (let out = 0; out < hidden; out++) {
            let dot = 0;
            for (let channel = 0; channel < dim; channel++)
              dot += data.v[(head * length + entry) * dim + channel] * matrix[(member * dim + channel) * hidden + out];
            sum += Math.abs(dot) / 2;
          }
        return sum;
      });
      const first = best(votesOf, 8);
      const second = votesOf.map((vote, entry) => (first.includes(entry) ? Infinity : (vote + 1e-4) * sizes[entry]));
      expect(Array.from(lists[head])).toEqual([...best(second, 16), 56, 57, 58, 59]);
    }
  });

  it('leaves heads the numbers that an adaptive allocation gives them', async () => {
    const data = randomLayer(new Random(19), shape);
    // Head 1 spreads its votes.
    data.k.fill(0.01, shape.length * shape.dim);

    const ragged = compressor({ ...inner.parts, allocation: adaptive(0.2) });
    const options = { outputWeight: weight(normals(new Random(20), 4 * 8 * hidden)) };
    const lengths = (lists: readonly Uint32Array[]): number[] => lists.map((ids) => ids.length);
    const expected = lengths(await kept(backend, ragged, data));
    expect(expected[0]).not.toBe(expected[1]);
    expect(lengths(await kept(backend, critical(ragged, { eps: 1e-4, firstStage: 0.5 }), data, options))).toEqual(expected);
  });

  it('asks for the output matrix', async () => {
    const data = randomLayer(new Random(21), shape);
    await expect(kept(backend, critical(inner, { eps: 0, firstStage: 0.5 }), data)).rejects.toThrow(/outputWeight/);
  });
});
