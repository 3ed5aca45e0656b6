import { createReferenceBackend, OptionError } from '@filigree/core-tensor';
import {
  denseAttention,
  nmSoftmax,
  skipSoftmax,
  skipSoftmaxMethod,
  type AttentionMethod,
  type MethodOptions,
} from '@filigree/sparse-attention';
import { afterAll, describe, expect, it } from 'vitest';
import { crafted } from './support/crafted.js';
import { planted, type PlantedPrompt } from './support/planted.js';
import { disposeOutcome, run } from './support/run.js';

const backend = createReferenceBackend();
afterAll(() => {
  backend.dispose();
});

/** o of every query of a prompt. */
async function attended(method: AttentionMethod, options: MethodOptions, prompt: PlantedPrompt): Promise<Float32Array> {
  const outcome = await run(backend, method.create(options), [prompt]);
  const o = Float32Array.from(await outcome.o.readNumbers());
  disposeOutcome(outcome);
  return o;
}

function distance(a: Float32Array, b: Float32Array): number {
  return Math.sqrt(a.reduce((sum, value, index) => sum + (value - b[index]) ** 2, 0));
}

describe('skip softmax', () => {
  const prompt = planted({ seed: 1, length: 512, noise: 1.4, plantings: [{ verticals: [100, 300], strength: 6 }] });

  it('is dense attention, to the bit, for a scale of 0 and up to a length of the scale', async () => {
    const dense = await attended(denseAttention, {}, prompt);
    expect(await attended(skipSoftmaxMethod, { scale: 0 }, prompt)).toEqual(dense);
    expect(await attended(skipSoftmaxMethod, { scale: 512 }, prompt)).toEqual(dense);
    expect(skipSoftmax({ scale: 512, targetSparsity: 0, a: 0, b: 0 })(512)).toEqual({});
  });

  it('is further from dense attention the larger the scale', async () => {
    const dense = await attended(denseAttention, {}, prompt);
    const distances: number[] = [];
    for (const scale of [0.05, 1, 20, 500])
      distances.push(distance(dense, await attended(skipSoftmaxMethod, { scale }, prompt)));
    expect([...distances].sort((a, b) => a - b)).toEqual(distances);
    expect(distances[3]).toBeGreaterThan(distances[0]);
  });

  it('skips a far-away tile that does not count, and no needle', async () => {
    // Tiles of 64 keys: the first scores 0, the second −9 throughout, the third has a needle among keys of −9.
    const needle = 150;
    const parts = crafted(256, (position) => (position < 64 || position === needle ? 0 : -9));
    const marked = {
      ...parts,
      v: parts.v.map((_, index) => (Math.floor(index / 16) === needle ? 1 : index < 64 * 16 ? 0 : 1000)),
    };
    const o = await attended(skipSoftmaxMethod, { scale: 1 }, marked);
    const last = o[16 * 255];
    const dense = (await attended(denseAttention, {}, marked))[16 * 255];
    // 65 keys of weight 1, and those of weight e^−9 in the tile of the needle.
    const kept = 63 * Math.exp(-9);
    expect(last).toBeCloseTo((1 + kept * 1000) / (65 + kept), 3);
    expect(dense).toBeGreaterThan(last + 0.1);
  });

  it('comes to a scale of a · e^(b · share) for a target share', () => {
    const options = skipSoftmax({ scale: 1, targetSparsity: 0.5, a: 2, b: 3 });
    expect(options(4096).pvSkip).toBeCloseTo(Math.log(4096 / (2 * Math.exp(1.5))), 12);
    expect(() => skipSoftmax({ scale: 1, targetSparsity: 0.5, a: 0, b: 0 })).toThrow('a is 0');
    expect(() => skipSoftmax({ scale: -1, targetSparsity: 0, a: 0, b: 0 })).toThrow(OptionError);
  });
});

describe('N:M softmax', () => {
  it('is dense attention when all of a group are kept', async () => {
    const prompt = planted({ seed: 2, length: 90 });
    const dense = await attended(denseAttention, {}, prompt);
    for (const m of [4, 8]) expect(await attended(nmSoftmax, { n: m, m, recent: 0 }, prompt)).toEqual(dense);
  });

  it.each([
    [1, 4],
    [2, 4],
    [3, 8],
  ])('keeps exactly %i of every %i equal scores, the first ones', async (n, m) => {
    const length = 64;
    const parts = crafted(length, () => 0);
    const o = await attended(nmSoftmax, { n, m, sinks: 0, recent: 0 }, parts);
    const position = length - 1;
    const kept = Array.from({ length }, (_, key) => key).filter((key) => key % m < n);
    for (let channel = 0; channel < 6; channel++) {
      const ones = kept.filter((key) => (key >> channel) & 1).length;
      expect(o[position * 16 + channel]).toBeCloseTo(ones / kept.length, 5);
    }
  });

  it('refuses more than a group has, and groups of other sizes', () => {
    expect(() => nmSoftmax.create({ n: 5, m: 4 })).toThrow('n is 5, a group has 4');
    expect(() => nmSoftmax.create({ m: 6 })).toThrow('m is 6, it must be one of 4, 8');
  });
});
