import { createNativeBackend } from '@filigree/backend-native';
import { createReferenceBackend, fromArray, OptionError, Random, reshape, scope, type Backend } from '@filigree/core-tensor';
import { gatePlan, knorm, merging, StreamCache, streamingHeads, type Compressor } from '@filigree/kv-cache';
import { attention } from '@filigree/sparse-attention';
import { afterAll, describe, expect, it } from 'vitest';
import { normals, randomLayer, withContext, type LayerData } from './support/compress-context.js';

const shape = { heads: 2, kvHeads: 2, length: 50, dim: 8 };
const plan = gatePlan({ name: 'test', layers: 1, heads: 2, kvHeads: 2 }, [[0, 1]], { sparsity: 0.5 });

const backends: [string, () => Backend][] = [
  ['reference', createReferenceBackend],
  ['native', () => createNativeBackend({ fallback: 'error' })],
];

describe.each(backends)('an entry that stands for several, on the %s backend', (_, make) => {
  const backend = make();
  afterAll(() => {
    backend.dispose();
  });

  /** How far the attention of a later query over what is kept is from that over everything, per head; and the entries kept. */
  async function error(compressor: Compressor, data: LayerData): Promise<{ worst: number[]; entries: number[] }> {
    const { heads, length, dim } = shape;
    const q = fromArray(backend, normals(new Random(9), heads * dim), [1, heads, 1, dim]);
    const found = await withContext(backend, data, compressor.queries, async (context) => {
      const dense = scope(
        () => attention(q, reshape(context.k, [1, heads, length, dim]), reshape(context.v, [1, heads, length, dim])).o,
      );
      const lists = await compressor.compress(context);
      const cache = new StreamCache(backend, { layers: 1, kvHeads: heads, kDim: dim, vDim: dim, capacity: 400, pageSize: 16 });
      cache.fill(0, context, lists, context);
      const { k, v, table, bias, lengths } = cache.view(0);
      const own = scope(() => {
        const counts = fromArray(backend, lengths, [heads], 'i32');
        return attention(reshape(q, [heads, 1, 1, dim]), k, v, { table, bias, lengths: counts }).o;
      });
      const [a, b] = [await dense.readNumbers(), await own.readNumbers()];
      for (const tensor of [dense, own]) tensor.dispose();
      cache.dispose();
      const apart = Array.from(a, (value, index) => Math.abs(value - b[index]));
      const worst = Array.from({ length: heads }, (_row, head) => Math.max(...apart.slice(head * dim, (head + 1) * dim)));
      return { worst, entries: lists.map((ids) => ids.length) };
    });
    q.dispose();
    return found;
  }

  /** All keys of what lies between the ends are one, the values differ. */
  function equalKeys(): LayerData {
    const data = randomLayer(new Random(1), shape);
    const key = normals(new Random(2), shape.dim);
    for (let head = 0; head < shape.kvHeads; head++)
      for (let id = 3; id < 43; id++) data.k.set(key, (head * shape.length + id) * shape.dim);
    return data;
  }

  it('is exact for keys that are equal, and weighs too little without', async () => {
    const compensated = streamingHeads(plan, { sinks: 3, recent: 7, compensate: true });
    const { worst, entries } = await error(compensated, equalKeys());
    expect(entries).toEqual([11, 50]);
    expect(compensated.budget(50, 0, 1)).toBe(Math.ceil((11 + 50) / 2));
    expect(Math.max(...worst)).toBeLessThan(1e-5);
    const plain = await error(streamingHeads(plan, { sinks: 3, recent: 7 }), equalKeys());
    expect(plain.worst[0]).toBeGreaterThan(1e-2);
    expect(plain.worst[1]).toBeLessThan(1e-5);
  });

  it('is not there for a prompt that the spans and it hold', async () => {
    const { worst, entries } = await error(streamingHeads(plan, { sinks: 3, recent: 46, compensate: true }), equalKeys());
    expect(entries).toEqual([50, 50]);
    expect(Math.max(...worst)).toBeLessThan(1e-5);
  });

  it('merges duplicates without a difference, but only with their bias', async () => {
    const data = repeated();
    const inner = knorm({ budget: 14, sinks: 0, recent: 7 });
    const { worst, entries } = await error(merging(inner, { bias: true }), data);
    expect(entries).toEqual([14, 14]);
    expect(Math.max(...worst)).toBeLessThan(1e-5);
    expect(Math.max(...(await error(merging(inner), data)).worst)).toBeGreaterThan(1e-3);
  });

  it('is refused where there is no place for its bias', async () => {
    const data = randomLayer(new Random(4), shape);
    for (const compressor of [
      merging(knorm({ budget: 9, sinks: 0, recent: 0 }), { bias: true }),
      streamingHeads(plan, { sinks: 1, recent: 1, compensate: true }),
    ])
      await withContext(backend, data, 0, async (context) => {
        const compress = async (): Promise<unknown> => compressor.compress({ ...context, bias: undefined });
        await expect(compress()).rejects.toThrow(OptionError);
      });
  });
});

/** Seven entries again and again: the newest seven are all that there are. */
function repeated(): LayerData {
  const { kvHeads, length, dim } = shape;
  const data = randomLayer(new Random(3), shape);
  for (const rows of [data.k, data.v])
    for (let row = 0; row < kvHeads * length; row++) {
      const [first, id] = [row - (row % length), row % length];
      rows.copyWithin(row * dim, (first + (id % 7)) * dim, (first + (id % 7) + 1) * dim);
    }
  return data;
}
