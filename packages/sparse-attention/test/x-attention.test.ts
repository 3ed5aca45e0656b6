import { createNativeBackend } from '@filigree/backend-native';
import { blockTopKMethod, xAttentionMethod } from '@filigree/sparse-attention';
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

  it('finds a slash that means of blocks miss', async () => {
    const sharp = planted({
      seed: 4,
      length: 512,
      heads: 1,
      dim: 128,
      noise: 0.5,
      plantings: [{ slashes: [77], strength: 70 }],
    });
    const found = await keysSeen(backend, xAttentionMethod.create({ stride: 8, block: 64, threshold: 0.9 }), sharp);
    const missed = await keysSeen(backend, blockTopKMethod.create({ block: 64, topK: 3 }), sharp);
    const recall = ([keys]: typeof found): number => recallOf(sharp, keys.slice(256), 0, 256);
    expect(recall(found)).toBeGreaterThan(0.95);
    expect(recall(missed)).toBeLessThan(0.5);
  });

  it('refuses a block that strides do not fill, and thresholds that are no share', () => {
    expect(() => xAttentionMethod.create({ stride: 12, block: 64 })).toThrow(/stride/);
    expect(() => xAttentionMethod.create({ threshold: 1.2 })).toThrow(/threshold/);
  });
});
