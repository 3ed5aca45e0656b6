import { createNativeBackend } from '@filigree/backend-native';
import { OptionError, Random } from '@filigree/core-tensor';
import {
  adaKv,
  blockwise,
  expectedAttention,
  h2o,
  keyDiff,
  knorm,
  perChunk,
  snapKv,
  snapKvDefaults,
  type ScoredCompressor,
} from '@filigree/kv-cache';
import { afterAll, describe, expect, it } from 'vitest';
import { kept, randomLayer } from './support/compress-context.js';

const backend = createNativeBackend({ fallback: 'error' });
afterAll(() => {
  backend.dispose();
});

const data = randomLayer(new Random(1), { heads: 4, kvHeads: 2, length: 50, dim: 8 });
const votes = { ...snapKvDefaults, budget: 17, window: 4 };
const inners: [string, ScoredCompressor][] = [
  ['SnapKV', snapKv(votes)],
  ['H2O', h2o({ budget: 17, recent: 0.5, normalizeByAge: true, valueNorm: false })],
  ['KeyDiff', keyDiff({ budget: 17, sinks: 2, recent: 2 })],
  ['Expected Attention', expectedAttention({ budget: 17, future: 8, sinks: 2, covariance: true, valueNorm: true, eps: 0 })],
];

describe.each(inners)('%s', (_name, inner) => {
  it('in one block or one chunk is as a whole', async () => {
    const whole = await kept(backend, inner, data);
    expect(await kept(backend, blockwise(inner, { block: 50 }), data)).toEqual(whole);
    expect(await kept(backend, perChunk(inner, { length: 64 }), data)).toEqual(whole);
  });

  it.each([1, 7, 25, 49])('in pieces of %s keeps its budget, and leaves nothing behind', async (size) => {
    await backend.sync();
    const before = backend.memory().liveBytes;
    for (const pieces of [blockwise(inner, { block: size }), perChunk(inner, { length: size })])
      for (const ids of await kept(backend, pieces, data)) {
        expect(ids.length).toBe(17);
        expect(Array.from(ids)).toEqual([...new Set(ids)].sort((a, b) => a - b));
        expect(Math.max(...ids)).toBeLessThan(50);
      }
    await backend.sync();
    expect(backend.memory().liveBytes).toBe(before);
  });
});

describe('pieces of a prompt', () => {
  it('each keep their share', async () => {
    for (const ids of await kept(backend, perChunk(knorm({ budget: 20, sinks: 0, recent: 0 }), { length: 10 }), data))
      expect([0, 1, 2, 3, 4].map((chunk) => ids.filter((id) => Math.floor(id / 10) === chunk).length)).toEqual([4, 4, 4, 4, 4]);
  });

  it('by norms alone are the same block by block', async () => {
    const inner = knorm({ budget: 12, sinks: 0, recent: 0 });
    expect(await kept(backend, blockwise(inner, { block: 9 }), data)).toEqual(await kept(backend, inner, data));
  });

  it('are refused where heads keep different numbers', async () => {
    const ragged = adaKv({ ...votes, safeguard: 0 });
    await expect(kept(backend, blockwise(ragged, { block: 9 }), data)).rejects.toThrow(OptionError);
    expect(() => blockwise(snapKv(votes), { block: 0 })).toThrow(/block/);
    expect(() => perChunk(snapKv(votes), { length: 1.5 })).toThrow(/length/);
  });
});
