import { createNativeBackend } from '@filigree/backend-native';
import { createReferenceBackend, Random, type Backend } from '@filigree/core-tensor';
import { h2o } from '@filigree/kv-cache';
import { afterAll, describe, expect, it } from 'vitest';
import { planted, randomLayer, withContext, type LayerData } from './support/compress-context.js';

const options = { budget: 8, recent: 2, normalizeByAge: false, valueNorm: false };
const [heads, kvHeads, length, dim] = [4, 2, 30, 8];

const backends: [string, () => Backend][] = [
  ['reference', createReferenceBackend],
  ['native', () => createNativeBackend({ fallback: 'error' })],
];

/** What a layer had when it was `count` long. */
function until(data: LayerData, count: number): LayerData {
  const head = (rows: Float32Array, index: number): Float32Array =>
    rows.subarray(index * length * dim, (index * length + count) * dim);
  const cut = (rows: Float32Array): Float32Array => Float32Array.from([...head(rows, 0), ...head(rows, 1)]);
  return { ...data, length: count, k: cut(data.k), v: cut(data.v), q: data.q.subarray(0, count * heads * dim) };
}

describe.each(backends)('H2O while decoding on the %s backend', (_, make) => {
  const backend = make();
  afterAll(() => {
    backend.dispose();
  });

  /** Attention received by entries after the last `queries` of a layer, which begin with what was received before. */
  async function after(
    data: LayerData,
    queries: number,
    before: readonly Float32Array[] = [],
  ): Promise<{ received: Float32Array[]; kept: number[][] }> {
    return withContext(backend, data, queries, async (context) => {
      const received = Array.from({ length: kvHeads }, (_head, head) => {
        const row = new Float32Array(data.length);
        row.set(before.at(head) ?? []);
        return row;
      });
      const lists = await h2o(options).compress({ ...context, received });
      return { received, kept: lists.map((ids) => Array.from(ids)) };
    });
  }

  it('adds up to what all queries at once pay attention to, in steps of any size', async () => {
    const data = randomLayer(new Random(1), { heads, kvHeads, length, dim });
    const whole = await after(data, length);
    for (const every of [1, 3]) {
      let sums = await after(until(data, 9), 9);
      for (let end = 9 + every; end <= length; end += every) sums = await after(until(data, end), every, sums.received);
      for (const [head, row] of sums.received.entries())
        for (const [entry, sum] of row.entries()) expect(Math.abs(sum - whole.received[head][entry])).toBeLessThan(1e-5);
      expect(sums.kept).toEqual(whole.kept);
    }
  });

  it('keeps an entry that earlier queries looked at, when the newest ones do not', async () => {
    const shape = { heads, kvHeads, length, dim };
    const data = planted(new Random(2), shape, { needle: 4, asking: length });
    // The last queries look anywhere else.
    data.q.set(
      randomLayer(new Random(3), shape)
        .q.map((value) => value / 10)
        .subarray(28 * heads * dim),
      28 * heads * dim,
    );
    const sums = await after(until(data, 28), 28);
    const { kept } = await after(data, 2, sums.received);
    for (const ids of kept) expect(ids).toContain(4);
  });
});
