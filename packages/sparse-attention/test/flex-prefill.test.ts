import { createNativeBackend } from '@filigree/backend-native';
import { flexPrefillMethod } from '@filigree/sparse-attention';
import { afterAll, describe, expect, it } from 'vitest';
import { planted } from './support/planted.js';
import { densityOf, recallOf } from './support/recall.js';
import { keysSeen } from './support/run.js';

const backend = createNativeBackend({ threads: 2, fallback: 'error' });
afterAll(() => {
  backend.dispose();
});

const small = { block: 32, minBudget: 32, denseBelow: 0 };

describe('FlexPrefill', () => {
  const blocks = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15].map(
    (block) => [block, (3 * block) % (block + 1)] as const,
  );
  const plantings = [{ verticals: [5, 200, 330] }, { blocks, blockSize: 32, strength: 16 }];
  const prompt = planted({ seed: 12, length: 512, heads: 2, kvHeads: 2, dim: 64, plantings });

  it('is query-aware where queries look at blocks of their own, and not where all look at the same keys', async () => {
    const keys = await keysSeen(backend, flexPrefillMethod.create({ ...small, tau: 0.2 }), prompt);
    const never = await keysSeen(backend, flexPrefillMethod.create({ ...small, tau: 0 }), prompt);
    expect(keys[0]).toEqual(never[0]);
    expect(recallOf(prompt, keys[1], 1)).toBeGreaterThan(0.9);
    expect(recallOf(prompt, never[1], 1)).toBeLessThan(0.8);
    expect(densityOf(keys[1])).toBeLessThan(0.5);
  });

  it.each([0.8, 0.9, 0.95])('holds a share of %f of the attention of planted heads', async (gamma) => {
    const own = [{ verticals: [3, 170, 300] }, { slashes: [0, 64, 130] }];
    const lines = planted({ seed: 13, length: 480, heads: 2, kvHeads: 2, dim: 64, plantings: own });
    const keys = await keysSeen(backend, flexPrefillMethod.create({ ...small, gamma, minBudget: 128 }), lines);
    for (const head of [0, 1]) expect(recallOf(lines, keys[head], head)).toBeGreaterThanOrEqual(gamma);
  });

  it('sees less as gamma falls', async () => {
    const densities: number[] = [];
    for (const gamma of [0.99, 0.9, 0.6, 0.2]) {
      const keys = await keysSeen(backend, flexPrefillMethod.create({ ...small, gamma, tau: 0.2 }), prompt);
      densities.push(densityOf(keys[0]) + densityOf(keys[1]));
    }
    for (let index = 1; index < densities.length; index++) expect(densities[index]).toBeLessThanOrEqual(densities[index - 1]);
    expect(densities[3]).toBeLessThan(0.7 * densities[0]);
  });

  it('sees no more than the greatest budget and no less than the least', async () => {
    const bare = { gamma: 0.9, tau: 0 };
    const most = await keysSeen(backend, flexPrefillMethod.create({ ...small, ...bare, maxBudget: 64 }), prompt);
    // Two blocks of verticals and two of slashes, the query's own among them.
    for (const head of most) expect(Math.max(...head.map((keys) => keys.length))).toBeLessThanOrEqual(4 * 32);
    const least = await keysSeen(backend, flexPrefillMethod.create({ ...small, ...bare, gamma: 0, minBudget: 160 }), prompt);
    expect(least[0][511].length).toBeGreaterThanOrEqual(160);
  });

  it('asks the last queries of ragged elements', async () => {
    const options = { from: [33], to: [81] };
    const [keys] = await keysSeen(backend, flexPrefillMethod.create(small), prompt, options);
    expect(recallOf(prompt, keys, 0, 33)).toBeGreaterThan(0.9);
  });

  it('refuses a share beyond 1', () => {
    expect(() => flexPrefillMethod.create({ gamma: 1.1 })).toThrow(/gamma/);
  });
});
