import { createNativeBackend } from '@filigree/backend-native';
import { createReferenceBackend, OptionError, Random, type Backend } from '@filigree/core-tensor';
import { knorm, merging, snapKv, type Kept, type ScoredCompressor } from '@filigree/kv-cache';
import { afterAll, describe, expect, it } from 'vitest';
import { kept, normals, randomLayer, withContext, type LayerData } from './support/compress-context.js';

const shape = { heads: 4, kvHeads: 2, length: 50, dim: 8 };
const votes = { budget: 12, window: 4, kernel: 1, pool: 'avg', group: 'mean' };

const backends: [string, () => Backend][] = [
  ['reference', createReferenceBackend],
  ['native', () => createNativeBackend({ fallback: 'error' })],
];

describe.each(backends)('merging on the %s backend', (_, make) => {
  const backend = make();
  afterAll(() => {
    backend.dispose();
  });

  /** What is kept, and keys and values as they are afterwards. */
  async function merged(
    inner: ScoredCompressor,
    data: LayerData,
    options?: Parameters<typeof merging>[1],
  ): Promise<{ lists: Kept; k: Float32Array; v: Float32Array }> {
    const compressor = merging(inner, options);
    return withContext(backend, data, compressor.queries, async (context) => {
      const lists = await compressor.compress(context);
      return {
        lists,
        k: Float32Array.from(await context.k.readNumbers()),
        v: Float32Array.from(await context.v.readNumbers()),
      };
    });
  }

  it('is the inner method above every cosine, and of no entry', async () => {
    const data = randomLayer(new Random(1), shape);
    const lists = await kept(backend, snapKv(votes), data);
    for (const options of [{ threshold: 1.5 }, { fraction: 0 }])
      expect(await merged(snapKv(votes), data, options)).toEqual({ lists, k: data.k, v: data.v });
  });

  it('keeps the same entries and averages their values as the formula says', async () => {
    const data = randomLayer(new Random(2), shape);
    const inner = knorm({ budget: 12, sinks: 2, recent: 3 });
    const { lists, k, v } = await merged(inner, data);
    expect(lists).toEqual(await kept(backend, inner, data));
    expect(k).toEqual(data.k);
    const { length, dim } = shape;
    for (const [head, ids] of lists.entries()) {
      const row = (x: Float32Array, id: number): Float32Array =>
        x.subarray((head * length + id) * dim, (head * length + id + 1) * dim);
      const cosine = (a: Float32Array, b: Float32Array): number =>
        a.reduce((sum, value, index) => sum + value * b[index], 0) / (Math.hypot(...a) * Math.hypot(...b));
      const targets = Array.from(ids).filter((id) => id >= 2);
      const sums = new Map(targets.map((id) => [id, { values: Array.from(row(data.v, id)), total: 1 }]));
      for (let id = 0; id < length; id++) {
        if (ids.includes(id)) continue;
        const cosines = targets.map((target) => cosine(row(data.k, id), row(data.k, target)));
        const best = targets[cosines.indexOf(Math.max(...cosines))];
        const [own, other] = [Math.hypot(...row(data.v, id)), Math.hypot(...row(data.v, best))];
        const weight = (Math.max(0, ...cosines) * own) / (own + other);
        const sum = sums.get(best);
        if (!sum) continue;
        sum.total += weight;
        sum.values = sum.values.map((value, channel) => value + weight * row(data.v, id)[channel]);
      }
      for (let id = 0; id < length; id++) {
        const sum = sums.get(id);
        const expected = sum ? sum.values.map((value) => value / sum.total) : Array.from(row(data.v, id));
        for (const [channel, value] of row(v, id).entries()) expect(Math.abs(value - expected[channel])).toBeLessThan(1e-5);
      }
    }
  });

  it('merges the share that is most similar', async () => {
    const data = randomLayer(new Random(3), shape);
    const changed = async (fraction: number): Promise<number> => {
      const { v } = await merged(knorm({ budget: 12, sinks: 0, recent: 0 }), data, { fraction });
      return Array.from({ length: 100 }, (_row, row) => row).filter((row) =>
        v.subarray(row * 8, row * 8 + 8).some((value, channel) => value !== data.v[row * 8 + channel]),
      ).length;
    };
    // Of 38 evicted entries per head one each.
    expect(await changed(1 / 38)).toBe(2);
    expect(await changed(1)).toBeGreaterThan(2);
  });

  it('changes nothing where entries are duplicates of each other', async () => {
    const random = randomLayer(new Random(4), shape);
    const [key, value] = [normals(new Random(5), 8), normals(new Random(6), 8)];
    const repeated = (part: Float32Array): Float32Array =>
      Float32Array.from({ length: 2 * 50 * 8 }, (_row, index) => part[index % 8]);
    const data = { ...random, k: repeated(key), v: repeated(value) };
    const { v } = await merged(snapKv(votes), data);
    for (const [index, found] of v.entries()) expect(Math.abs(found - data.v[index])).toBeLessThan(1e-5);
  });

  it('leaves nothing behind, and keeps a whole prompt as it is', async () => {
    const data = randomLayer(new Random(7), shape);
    await backend.sync();
    const before = backend.memory().liveBytes;
    await merged(snapKv(votes), data);
    const whole = await merged(snapKv({ ...votes, budget: 50 }), data);
    expect(whole.v).toEqual(data.v);
    // Sinks take nothing in, and there is nothing else.
    const sinks = await merged(knorm({ budget: 3, sinks: 3, recent: 0 }), data);
    expect(sinks.v).toEqual(data.v);
    await backend.sync();
    expect(backend.memory().liveBytes).toBe(before);
  });

  it.each([{ threshold: NaN }, { fraction: -0.1 }, { fraction: 2 }])('refuses %o', (options) => {
    expect(() => merging(snapKv(votes), options)).toThrow(OptionError);
  });
});
