import { createNativeBackend } from '@filigree/backend-native';
import { blockTopKMethod, xAttentionMethod, type AttentionPolicy } from '@filigree/sparse-attention';
import * as fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { planted } from './support/planted.js';
import { densityOf, recallOf } from './support/recall.js';
import { keysSeen } from './support/run.js';

const backend = createNativeBackend({ threads: 2, fallback: 'error' });
afterAll(() => {
  backend.dispose();
});

describe('XAttention', () => {
  // Of a cell of strides one antidiagonal is looked at, as a mean: what is planted must stand out in it.
  const verticals = [40, 170];
  const plantings = [
    { verticals, strength: 80 },
    { slashes: [77], strength: 40, width: 4 },
  ];
  const prompt = planted({ seed: 6, length: 512, heads: 2, kvHeads: 2, dim: 128, noise: 0.5, plantings });

  it.each([8, 16])('sees every planted vertical and slash with stride %i', async (stride) => {
    const keys = await keysSeen(backend, xAttentionMethod.create({ stride, block: 32, threshold: 0.9 }), prompt);
    for (let position = 0; position < 512; position++) {
      expect(keys[0][position]).toEqual(expect.arrayContaining(verticals.filter((key) => key <= position)));
      if (position >= 77) expect(keys[1][position]).toContain(position - 77);
    }
    for (const head of [0, 1]) {
      expect(recallOf(prompt, keys[head], head)).toBeGreaterThan(0.95);
      expect(densityOf(keys[head])).toBeLessThan(0.6);
    }
  });

  it('finds slashes of fast waves, which means of blocks miss', async () => {
    const slash = { slashes: [77], strength: 70, slowest: 0.5 };
    const generated = fc.nat(0x7fffffff).map((seed) => planted({ seed, length: 768, heads: 1, dim: 128, plantings: [slash] }));
    await fc.assert(
      fc.asyncProperty(generated, async (sharp) => {
        const recall = async (policy: AttentionPolicy): Promise<number> => {
          const [keys] = await keysSeen(backend, policy, sharp);
          return recallOf(sharp, keys.slice(384), 0, 384);
        };
        expect(await recall(xAttentionMethod.create({ stride: 8, block: 32, threshold: 0.9 }))).toBeGreaterThan(0.95);
        // What chance leaves of two blocks of up to 24.
        expect(await recall(blockTopKMethod.create({ block: 32, topK: 3 }))).toBeLessThan(0.5);
      }),
      { numRuns: 8 },
    );
  });

  it('refuses a block that strides do not fill, and thresholds that are no share', () => {
    expect(() => xAttentionMethod.create({ stride: 12, block: 64 })).toThrow(/stride/);
    expect(() => xAttentionMethod.create({ threshold: 1.2 })).toThrow(/threshold/);
  });
});
