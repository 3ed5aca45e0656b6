import { createNativeBackend } from '@filigree/backend-native';
import { createReferenceBackend, ExecutionError, fromArray, OptionError, Random, type Backend } from '@filigree/core-tensor';
import { kvMethod, kvMethods, type Compressor } from '@filigree/kv-cache';
import type { MethodOptions } from '@filigree/sparse-attention';
import { afterAll, describe, expect, it } from 'vitest';
import { kept, normals, randomLayer, type LayerData } from './support/compress-context.js';
import { planFor } from './support/kv-plan.js';

const backends: [string, () => Backend][] = [
  ['reference', createReferenceBackend],
  ['native', () => createNativeBackend({ fallback: 'error' })],
];

/** Options that make a method do its work on a short prompt. */
const short: Readonly<Record<string, MethodOptions>> = { 'lag-kv': { lag: 4 }, 'chunk-kv': { length: 3 } };

function create(id: string, budget: number, data: Pick<LayerData, 'heads' | 'kvHeads'>): Compressor {
  return kvMethod(id).create({ budget, ...short[id] }, kvMethod(id).planned ? planFor(data) : undefined);
}

/** Entries that a method keeps whatever they score, at both ends. */
function protectedIds(id: string, length: number, entries: number): number[] {
  const { options } = kvMethod(id);
  const { window = 0, sinks = 0 } = options as Record<string, number>;
  const share = Number(options.recent ?? window);
  const recent = Math.min(share < 1 ? Math.floor(share * entries) : share, entries);
  const first = Math.min(sinks, entries - recent);
  return Array.from({ length }, (_, entry) => entry).filter((entry) => entry < first || entry >= length - recent);
}

describe.each(backends)('methods on the %s backend', (_, make) => {
  const backend = make();
  afterAll(() => {
    backend.dispose();
  });
  const hidden = 5;
  const outputWeight = (data: LayerData) => () =>
    fromArray(backend, normals(new Random(7), data.heads * data.dim * hidden), [data.heads, data.dim, hidden]);

  // Retrieval heads keep what they keep whatever the budget.
  const budgeted = kvMethods.filter(({ options }) => 'budget' in options);
  const layerByLayer = budgeted.filter(
    (method) => method.create({}, method.planned ? planFor({ heads: 1, kvHeads: 1 }) : undefined).repeat === undefined,
  );

  describe.each(layerByLayer.map(({ id }) => [id] as const))('%s', (id) => {
    it.each([
      ['one head of one channel', { heads: 1, kvHeads: 1, length: 9, dim: 1 }],
      ['odd heads and channels', { heads: 3, kvHeads: 1, length: 23, dim: 5 }],
      ['groups', { heads: 6, kvHeads: 2, length: 41, dim: 8 }],
      ['two entries', { heads: 2, kvHeads: 2, length: 2, dim: 4 }],
    ])('keeps its budget of %s, and leaves nothing behind', async (_name, shape) => {
      const data = randomLayer(new Random(11), shape);
      const { length, kvHeads } = shape;
      await backend.sync();
      const before = backend.memory().liveBytes;
      for (const budget of [1, 2, 7, length - 1, length, length + 1, 1000]) {
        if (budget < 1) continue;
        // The mean over the layers is the budget; of one layer all methods leave it exactly.
        const lists = await kept(backend, create(id, budget, data), data, { outputWeight: outputWeight(data) });
        const entries = Math.min(budget, length);
        expect(lists.length).toBe(kvHeads);
        expect(lists.reduce((sum, ids) => sum + ids.length, 0)).toBe(kvHeads * entries);
        if (!kvMethod(id).ragged) for (const ids of lists) expect(ids.length).toBe(entries);
        for (const ids of lists) {
          expect(Array.from(ids)).toEqual([...new Set(ids)].filter((entry) => entry < length).sort((a, b) => a - b));
          for (const entry of protectedIds(id, length, entries)) expect(ids).toContain(entry);
        }
        await backend.sync();
        expect(backend.memory().liveBytes).toBe(before);
      }
    });

    it('keeps its budget where all is equal', async () => {
      const shape = { heads: 4, kvHeads: 2, length: 30, dim: 4 };
      const flat = (count: number): Float32Array => new Float32Array(count).fill(0.5);
      for (const filled of [flat, (count: number) => new Float32Array(count)]) {
        const data = { ...shape, k: filled(2 * 30 * 4), v: filled(2 * 30 * 4), q: filled(30 * 4 * 4) };
        const lists = await kept(backend, create(id, 9, data), data, { outputWeight: outputWeight(data) });
        expect(lists.map((ids) => ids.length)).toEqual([9, 9]);
      }
    });

    it('says which score is NaN', async () => {
      if (id === 'random' || id === 'streaming-llm') return;
      const data = randomLayer(new Random(12), { heads: 4, kvHeads: 2, length: 40, dim: 4 });
      data.k[4 * 10 + 1] = NaN;
      data.v[4 * 10 + 1] = NaN;
      await backend.sync();
      const before = backend.memory().liveBytes;
      const running = kept(backend, create(id, 9, data), data, { outputWeight: outputWeight(data) });
      await expect(running).rejects.toThrow(ExecutionError);
      await expect(running).rejects.toThrow(new RegExp(`${id}: the score of entry .* is NaN`));
      await backend.sync();
      expect(backend.memory().liveBytes).toBe(before);
    });
  });
});

describe('options of methods', () => {
  it.each([
    ['snap-kv', { window: 0 }],
    ['snap-kv', { kernel: 2 }],
    ['snap-kv', { pool: 'sum' }],
    ['snap-kv', { group: 'sum' }],
    ['pyramid-kv', { beta: 0.9 }],
    ['ada-kv', { safeguard: 2 }],
    ['h2o', { recent: -1 }],
    ['h2o', { recent: 1.5 }],
    ['chunk-kv', { length: 0 }],
    ['finch', { window: 0 }],
    ['finch', { chunk: -1 }],
    ['critical-kv', { firstStage: 1.1 }],
    ['critical-kv', { eps: -1 }],
    ['expected-attention', { future: 0 }],
    ['expected-attention', { sinks: -1 }],
    ['expected-attention', { eps: -1 }],
    ['key-diff', { recent: -1 }],
    ['knorm', { sinks: 0.5 }],
    ['lag-kv', { lag: 0 }],
    ['cap-kv', { future: 0 }],
    ['compactor', { chunk: 0 }],
    ['compactor', { sketch: 1.5 }],
    ['uncomp', { lower: 2 }],
    ['streaming-llm', { sinks: -1 }],
    ['random', { seed: -1 }],
    ['spatten', { sinks: -1 }],
    ['spatten', { recent: 0 }],
    ['spatten', { beta: 0.5 }],
    ['duo-attention', { sparsity: 1.5 }],
    ['duo-attention', { sinks: -1 }],
    ['duo-attention', { recent: 0.5 }],
    ['razor-attention', { induction: 2 }],
    ['razor-attention', { echo: -1 }],
    ['razor-attention', { minLocal: 0 }],
    ['razor-attention', { compression: 0.5 }],
    ['compress-kv', { kernel: 4 }],
    ['compress-kv', { heads: 0 }],
  ] as const)('%s refuses %o', (id, options) => {
    const plan = kvMethod(id).planned ? planFor({ heads: 4, kvHeads: 2 }) : undefined;
    expect(() => kvMethod(id).create(options, plan)).toThrow(OptionError);
    expect(() => kvMethod(id).create(options, plan)).toThrow(new RegExp(`${Object.keys(options)[0]} is`));
  });
});
