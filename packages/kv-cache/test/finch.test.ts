import { createNativeBackend } from '@filigree/backend-native';
import { cast, OptionError, Random, reshape, fromArray } from '@filigree/core-tensor';
import {
  finch,
  finchVotes,
  kvZip,
  kvZipMethod,
  knorm,
  rerotate,
  spattenMethod,
  type Compressor,
  type Kept,
} from '@filigree/kv-cache';
import { afterAll, describe, expect, it } from 'vitest';
import { kept, numbers, planted, randomLayer, scoresOf, withContext, type LayerData } from './support/compress-context.js';

const backend = createNativeBackend({ fallback: 'error' });
afterAll(() => {
  backend.dispose();
});

const shape = { heads: 4, kvHeads: 2, length: 60, dim: 8 };
const options = { budget: 20, window: 6, chunk: 0 };

/** What is kept, and keys and values as the decision leaves them. */
async function decided(compressor: Compressor, data: LayerData): Promise<{ lists: Kept; k: Float32Array; v: Float32Array }> {
  return withContext(backend, data, compressor.queries, async (context) => {
    const lists = await compressor.compress(context);
    const [k, v] = [Float32Array.from(await context.k.readNumbers()), Float32Array.from(await context.v.readNumbers())];
    return { lists, k, v };
  });
}

/** Keys of data turned to other positions, by [S] of position, per head. */
function turned(data: LayerData, positions: readonly (readonly number[])[]): Promise<Float32Array> {
  const { kvHeads, length, dim } = data;
  return withContext(backend, data, 0, async ({ rotate, k }) => {
    const rows = await Promise.all(
      positions.map((own, head) =>
        numbers(() =>
          rotate(
            reshape(k.view([length, dim], head * length * dim), [length, 1, dim]),
            fromArray(backend, own, [length], 'i32'),
          ),
        ),
      ),
    );
    return Float32Array.from(
      { length: kvHeads * length * dim },
      (_, at) => rows[Math.floor(at / length / dim)][at % (length * dim)],
    );
  });
}

describe('FINCH', () => {
  it('scores by the attention of the question, each query as much as it sees entries', async () => {
    const data = randomLayer(new Random(1), shape);
    const { heads, kvHeads, length, dim, k, q } = data;
    const found = await scoresOf(backend, finchVotes(options), data);
    for (let head = 0; head < heads; head++) {
      const sums = new Float64Array(length);
      const owner = Math.floor(head / (heads / kvHeads));
      for (let query = length - options.window; query < length; query++) {
        const weights = Array.from({ length: query + 1 }, (_, key) => {
          let dot = 0;
          for (let channel = 0; channel < dim; channel++)
            dot += q[(query * heads + head) * dim + channel] * k[(owner * length + key) * dim + channel];
          return Math.exp(dot / Math.sqrt(dim));
        });
        const total = weights.reduce((a, b) => a + b, 0);
        for (const [key, weight] of weights.entries()) sums[key] += ((query + 1) * weight) / total;
      }
      for (const [key, sum] of sums.entries()) expect(Math.abs(found[head * length + key] - sum)).toBeLessThan(1e-4);
    }
  });

  it('keeps the needle that the question asks for, among 64 of 4096', async () => {
    const data = planted(
      new Random(2),
      { heads: 4, kvHeads: 2, length: 4096, dim: 64, queries: 32 },
      { needle: 1500, asking: 4 },
    );
    for (const ids of await kept(backend, finch({ budget: 64, window: 32, chunk: 0 }), data)) expect(ids).toContain(1500);
    for (const ids of await kept(backend, finch({ budget: 96, window: 32, chunk: 512 }), data)) expect(ids).toContain(1500);
  });

  it('keeps the same share of every chunk, and of one chunk the best', async () => {
    const data = randomLayer(new Random(3), shape);
    // 14 of 54 entries before the question: 2.33 of 9.
    for (const ids of await kept(backend, finch({ ...options, chunk: 9 }), data)) {
      const counts = [0, 1, 2, 3, 4, 5].map((chunk) => ids.filter((id) => id < 54 && Math.floor(id / 9) === chunk).length);
      expect(counts).toEqual([2, 2, 3, 2, 2, 3]);
      expect(Array.from(ids.slice(-6))).toEqual([54, 55, 56, 57, 58, 59]);
    }
    expect(await kept(backend, finch({ ...options, chunk: 54 }), data)).toEqual(await kept(backend, finch(options), data));
  });

  it('leaves neighbours before the next token: keys as if they had been turned there at first', async () => {
    // Taken for keys that were not turned yet.
    const plain = randomLayer(new Random(4), shape);
    const { kvHeads, length, dim } = shape;
    const places = Array.from({ length }, (_, position) => position);
    const data = { ...plain, k: await turned(plain, [places, places]) };
    const { lists, k, v } = await decided(finch(options), data);
    expect(lists).toEqual(await kept(backend, finchVotes(options), data));
    expect(v).toEqual(data.v);
    const moved = lists.map((ids) => places.map((id) => (ids.includes(id) ? length - ids.length + ids.indexOf(id) : id)));
    const expected = await turned(plain, moved);
    expect(moved[0]).not.toEqual(places);
    for (let at = 0; at < kvHeads * length * dim; at++) expect(Math.abs(k[at] - expected[at])).toBeLessThan(1e-5);
  });
});

describe('rerotate', () => {
  const inner = knorm({ budget: 20, sinks: 2, recent: 2 });

  it('leaves a prompt that is kept whole as it is, and nothing behind', async () => {
    const data = randomLayer(new Random(5), shape);
    await backend.sync();
    const before = backend.memory().liveBytes;
    expect((await decided(rerotate(knorm({ budget: 60, sinks: 2, recent: 2 })), data)).k).toEqual(data.k);
    expect((await decided(rerotate(inner), data)).k).not.toEqual(data.k);
    await backend.sync();
    expect(backend.memory().liveBytes).toBe(before);
  });

  it('turns keys of f16', async () => {
    const data = randomLayer(new Random(6), shape);
    const { k: expected } = await decided(rerotate(inner), data);
    const found = await withContext(backend, data, 0, async (context) => {
      const [k, v] = [cast(context.k, 'f16'), cast(context.v, 'f16')];
      await rerotate(inner).compress({ ...context, k, v });
      const values = Float32Array.from(await k.readNumbers());
      for (const tensor of [k, v]) tensor.dispose();
      return values;
    });
    for (const [at, value] of found.entries()) expect(Math.abs(value - expected[at])).toBeLessThan(0.01);
  });

  it('refuses methods that decide about more than a layer', () => {
    expect(() => rerotate(kvZip(kvZipMethod.options))).toThrow(OptionError);
    expect(() => rerotate(spattenMethod.create())).toThrow('spatten: rerotate takes');
  });
});
