import { createNativeBackend } from '@filigree/backend-native';
import { spargeMethod } from '@filigree/sparse-attention';
import { afterAll, describe, expect, it } from 'vitest';
import { planted, type PlantedPrompt } from './support/planted.js';
import { densityOf, recallOf } from './support/recall.js';
import { disposeOutcome, keysSeen, run } from './support/run.js';

const backend = createNativeBackend({ threads: 2, fallback: 'error' });
afterAll(() => {
  backend.dispose();
});

const size = 32;
const sizes = { blockQ: size, blockK: size, denseBelow: 0 };

/** Blocks of keys with a code each, which one block of queries has too. */
function coded(seed: number): PlantedPrompt {
  const blocks = [0, 1, 2, 3, 4, 5, 6, 7].map((block) => [block, Math.floor(block / 2)] as const);
  return planted({ seed, length: 256, dim: 64, noise: 0.3, plantings: [{ blocks, blockSize: size, strength: 16 }] });
}

/** Turns the keys of a block into ±g, of which queries prefer +g: their mean is nothing, half of them are seen by every query. */
function cancelling(prompt: PlantedPrompt, block: number): PlantedPrompt {
  const { dim, q, k } = prompt;
  for (let step = 0; step < size; step++) {
    const row = k.subarray((block * size + step) * dim, (block * size + step + 1) * dim);
    row.fill(0);
    row[0] = step % 2 === 0 ? 12 : -12;
  }
  for (let row = 0; row < q.length / dim; row++) q[row * dim] += 12;
  return prompt;
}

describe('SpargeAttn', () => {
  it('sees a block whose keys cancel each other, as their mean does not speak for them', async () => {
    const prompt = cancelling(coded(7), 4);
    const wanted = [128, 130, 158];
    const guarded = await keysSeen(backend, spargeMethod.create({ ...sizes, cdf: 0.5, simThreshold: 0.3 }), prompt);
    const trusting = await keysSeen(backend, spargeMethod.create({ ...sizes, cdf: 0.5, simThreshold: -1 }), prompt);
    for (const position of [192, 230, 255]) {
      expect(guarded[0][position]).toEqual(expect.arrayContaining(wanted));
      expect(trusting[0][position]).not.toContain(130);
    }
    expect(densityOf(guarded[0])).toBeLessThan(0.9);
  });

  it('lets queries that do not resemble each other see everything', async () => {
    const prompt = coded(8);
    for (let position = 192; position < 224; position++) {
      for (let channel = 0; channel < 64; channel++) {
        const sign = position % 2 === 0 ? 1 : -1;
        prompt.q[position * 64 + channel] *= sign;
      }
    }
    const keys = await keysSeen(backend, spargeMethod.create({ ...sizes, cdf: 0.5, simThreshold: 0.5 }), prompt);
    expect(keys[0][200]).toHaveLength(201);
    expect(keys[1][200].length).toBeLessThan(201);
  });

  it('holds the share of attention that it is asked for', async () => {
    const prompt = coded(9);
    const keys = await keysSeen(backend, spargeMethod.create({ ...sizes, cdf: 0.95, simThreshold: 0.3 }), prompt);
    for (const head of [0, 1]) {
      expect(recallOf(prompt, keys[head], head)).toBeGreaterThanOrEqual(0.95);
      expect(densityOf(keys[head])).toBeLessThan(0.8);
    }
  });

  it('keeps three quarters of what is causal with half of all blocks', async () => {
    const prompt = planted({ seed: 10, length: 1024, dim: 16 });
    const policy = spargeMethod.create({ blockQ: 16, blockK: 16, denseBelow: 0, topK: 0.5, simThreshold: -0.1 });
    const [keys] = await keysSeen(backend, policy, prompt);
    expect(densityOf(keys)).toBeCloseTo(0.75, 1);
  });

  it('is the same bits with a pvSkip that nothing reaches', async () => {
    const bits: Uint8Array[] = [];
    for (const pvSkip of [0, 1e9]) {
      const outcome = await run(backend, spargeMethod.create({ ...sizes, cdf: 0.7, simThreshold: 0.3, pvSkip }), [coded(11)]);
      bits.push(await outcome.o.readBytes());
      disposeOutcome(outcome);
    }
    expect(bits[1]).toEqual(bits[0]);
  });

  it('refuses shares beyond 1 and negative distances', () => {
    expect(() => spargeMethod.create({ cdf: 1.5 })).toThrow(/cdf/);
    expect(() => spargeMethod.create({ topK: -1 })).toThrow(/topK/);
    expect(() => spargeMethod.create({ pvSkip: -1 })).toThrow(/pvSkip/);
  });
});
