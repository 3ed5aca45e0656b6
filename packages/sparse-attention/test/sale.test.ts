import { createReferenceBackend } from '@filigree/core-tensor';
import { saleMethod } from '@filigree/sparse-attention';
import { afterAll, describe, expect, it } from 'vitest';
import { span } from './support/mask-keys.js';
import { planted } from './support/planted.js';
import { densityOf, exactWeights, recallOf } from './support/recall.js';
import { keysSeen } from './support/run.js';

const backend = createReferenceBackend();
afterAll(() => {
  backend.dispose();
});

const sizes = { blockQ: 16, blockK: 8, sinks: 4, localWindow: 24, denseBelow: 0 };

describe('SALE', () => {
  const prompt = planted({
    seed: 3,
    length: 320,
    kvHeads: 2,
    dim: 64,
    plantings: [
      { verticals: [60, 150], strength: 9 },
      { slashes: [90], strength: 14 },
    ],
  });

  it.each([4, 8])('keeps every block with a weight of twice the threshold, at %i bits', async (bits) => {
    const threshold = 2;
    const keys = await keysSeen(backend, saleMethod.create({ ...sizes, threshold, bits }), prompt);
    for (const head of [0, 1]) {
      for (let position = 0; position < prompt.length; position++) {
        const first = 16 * Math.floor(position / 16);
        const weights = exactWeights(prompt, head, position);
        const exact = (key: number): boolean => key < 4 || key >= first + 1 - 24;
        const own = weights.reduce((sum, weight, key) => (exact(key) ? sum + weight : sum), 0);
        const heavy = span(0, position + 1).filter((key) => !exact(key) && weights[key] >= 2 * threshold * own);
        expect(keys[head][position]).toEqual(expect.arrayContaining(heavy));
      }
      expect(recallOf(prompt, keys[head], head)).toBeGreaterThan(0.9);
      expect(densityOf(keys[head])).toBeLessThan(0.7);
    }
  });

  it('sees less the higher the threshold, and sinks and window at least', async () => {
    const densities: number[] = [];
    for (const threshold of [1e-4, 0.01, 1, 1e9]) {
      const [keys] = await keysSeen(backend, saleMethod.create({ ...sizes, threshold }), prompt);
      densities.push(densityOf(keys));
      if (threshold === 1e9) expect(keys[319]).toEqual([...span(0, 4), ...span(304 + 1 - 24, 320)]);
    }
    expect([...densities].sort((a, b) => b - a)).toEqual(densities);
  });

  it('is dense for a threshold of 0, and for prompts up to denseBelow', async () => {
    for (const options of [
      { ...sizes, threshold: 0 },
      { ...sizes, threshold: 1e9, denseBelow: 320 },
    ]) {
      const [keys] = await keysSeen(backend, saleMethod.create(options), prompt);
      expect(densityOf(keys)).toBe(1);
    }
  });

  it('refuses bits that it has no numbers of', () => {
    expect(() => saleMethod.create({ bits: 5 })).toThrow('sale: bits is 5, it must be one of 4, 8');
  });
});
