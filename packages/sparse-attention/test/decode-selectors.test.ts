import { createNativeBackend } from '@filigree/backend-native';
import { OptionError } from '@filigree/core-tensor';
import {
  attentionMethod,
  lservePlan,
  parseHeadPlan,
  formatHeadPlan,
  type AttentionPolicy,
  type MethodOptions,
} from '@filigree/sparse-attention';
import { afterAll, describe, expect, it } from 'vitest';
import { fixture, type FixtureKind } from './support/fixtures.js';
import { span } from './support/mask-keys.js';
import { planted, type PlantedPrompt } from './support/planted.js';
import { exactWeights } from './support/recall.js';
import { disposeOutcome, keysSeen, run } from './support/run.js';

const backend = createNativeBackend({ threads: 2, fallback: 'error' });
afterAll(() => {
  backend.dispose();
});

const policy = (id: string, options: MethodOptions): AttentionPolicy => attentionMethod(id).create(options);

/** Shares of heads whose last query sees the needle, over some prompts, with each of the options. */
async function found(kind: FixtureKind, draws: number, options: readonly MethodOptions[]): Promise<number[]> {
  const hits = options.map(() => 0);
  for (let seed = 0; seed < draws; seed++) {
    const { prompt, needles } = fixture(kind, { seed, length: 8192, heads: 8 });
    for (const [index, own] of options.entries()) {
      const keys = await keysSeen(backend, policy('lserve', own), prompt, { from: [8191], decode: true, pageSize: 64 });
      hits[index] += keys.filter(([query], head) => query.includes(needles[head])).length;
    }
  }
  return hits.map((count) => count / (8 * draws));
}

describe('TidalDecode', () => {
  const prompt = planted({ seed: 2, length: 300, heads: 4, kvHeads: 2 });
  const step = { from: [299], decode: true, pageSize: 16 };

  it('selects the keys with the greatest weights, and the newest', async () => {
    const options = { topK: 30, select: '0', denseSelect: false };
    const keys = await keysSeen(backend, policy('tidal-decode', options), prompt, step);
    for (const [head, [query]] of keys.entries()) {
      const weights = exactWeights(prompt, head, 299);
      const best = span(0, 299).sort((a, b) => weights[b] - weights[a]);
      expect(query).toEqual([...best.slice(0, 29), 299].sort((a, b) => a - b));
    }
  });

  it('sees everything in the layers that select', async () => {
    const keys = await keysSeen(backend, policy('tidal-decode', { topK: 30, select: '0' }), prompt, step);
    for (const [query] of keys) expect(query).toHaveLength(300);
  });

  it('refuses layers that are none', () => {
    expect(() => policy('tidal-decode', { select: '2 x' })).toThrow('tidal-decode: select has "x"');
    expect(() => policy('tidal-decode', { topK: 0 })).toThrow(OptionError);
  });
});

describe('TokenSelect', () => {
  /** Scores of nine heads as logits: eight that are noisy and one that is sure of `needle`. */
  function voters(needle: number): PlantedPrompt {
    const noisy = planted({ seed: 4, length: 400, heads: 9, kvHeads: 9, dim: 16, noise: 0 });
    const random = planted({ seed: 5, length: 400, heads: 9, kvHeads: 9, dim: 16, noise: 1 });
    for (let head = 0; head < 9; head++) {
      for (let position = 0; position < 400; position++) {
        // The query is 4 e₀, so that scores are the keys' first channel.
        const row = (head * 400 + position) * 16;
        noisy.q[row] = 4;
        noisy.k[row] = head < 8 ? 4 * random.k[row] : position === needle ? 8 : 0;
      }
    }
    // To the noisy heads the needle is worse than most.
    for (let head = 0; head < 8; head++) noisy.k[(head * 400 + needle) * 16] = -4;
    return noisy;
  }
  const step = { from: [399], decode: true, pageSize: 16 };

  it('ranks first what one head is sure of, among eight that are not', async () => {
    const prompt = voters(150);
    expect(exactWeights(prompt, 8, 399)[150]).toBeGreaterThan(0.85);
    const keys = await keysSeen(backend, policy('token-select', { topK: 4, sinks: 2, local: 3 }), prompt, step);
    for (const [query] of keys) {
      expect(query).toEqual(keys[0][0]);
      expect(query).toEqual(expect.arrayContaining([0, 1, 150, 397, 398, 399]));
      expect(query).toHaveLength(9);
    }
    // By the sum of the scores themselves it would be among the last.
    const sums = span(0, 400).map((key) => span(0, 9).reduce((sum, head) => sum + prompt.k[(head * 400 + key) * 16], 0));
    expect(sums.filter((sum) => sum > sums[150]).length).toBeGreaterThan(300);
  });

  it('gives no vote to keys that everyone sees', async () => {
    // Every head is sure of key 0, a sink; the rest of its weight still decides.
    const prompt = planted({ seed: 6, length: 400, heads: 2, plantings: [{ verticals: [0], strength: 60 }] });
    const more = planted({ seed: 6, length: 400, heads: 2, plantings: [{ verticals: [200], strength: 12 }] });
    for (let channel = 0; channel < 32; channel++) prompt.k[200 * 32 + channel] = more.k[200 * 32 + channel];
    const keys = await keysSeen(backend, policy('token-select', { topK: 1, sinks: 1, local: 1 }), prompt, step);
    for (const [query] of keys) expect(query).toEqual([0, 200, 399]);
  });
});

describe('LServe', () => {
  const tokenBudget = 512;

  it('finds what bounds can find', async () => {
    expect(await found('planted', 2, [{ page: 64, sub: 16, tokenBudget }])).toEqual([1]);
  });

  it('finds more with bounds of small pages, and more yet with small pages', async () => {
    const sizes = [
      { page: 64, sub: 64, tokenBudget },
      { page: 64, sub: 16, tokenBudget },
      { page: 16, sub: 16, tokenBudget },
    ];
    const [large, parts, small] = await found('hardPlanted', 6, sizes);
    expect(parts).toBeGreaterThan(large);
    expect(small).toBeGreaterThan(parts);
    expect(small).toBeLessThan(0.7);
  });

  it('takes whole pages, the first and the last among them', async () => {
    const prompt = planted({ seed: 3, length: 1000 });
    const options = { page: 32, sub: 8, tokenBudget: 160 };
    const keys = await keysSeen(backend, policy('lserve', options), prompt, { from: [999], decode: true, pageSize: 64 });
    for (const [query] of keys) {
      const pages = new Set(query.map((key) => Math.floor(key / 32)));
      expect(pages.size).toBe(5);
      expect(query).toEqual(expect.arrayContaining([...span(0, 32), ...span(992, 1000)]));
      expect(query).toHaveLength(4 * 32 + 8);
    }
  });

  it('shares pages among the query heads of a key-value head when it takes their maximum', async () => {
    const prompt = planted({ seed: 5, length: 512, heads: 4, kvHeads: 2, plantings: [{ verticals: [200] }] });
    const options = { page: 16, sub: 4, tokenBudget: 64, groupReduce: 'max' };
    const keys = await keysSeen(backend, policy('lserve', options), prompt, { from: [511], decode: true, pageSize: 64 });
    expect(keys[1]).toEqual(keys[0]);
    expect(keys[3]).toEqual(keys[2]);
    for (const [query] of keys) expect(query).toContain(200);
  });

  it('refuses parts that do not divide pages, and pages that the cache has not', async () => {
    expect(() => policy('lserve', { page: 64, sub: 24 })).toThrow('lserve: sub is 24');
    const prompt = planted({ seed: 5, length: 64 });
    await expect(run(backend, policy('lserve', {}), [prompt], { from: [63], pageSize: 32 })).rejects.toThrow(OptionError);
    const outcome = await run(backend, policy('lserve', { page: 32 }), [prompt], { from: [63], pageSize: 32 });
    disposeOutcome(outcome);
  });

  it('makes a plan in which the heads with the smallest scores stream', () => {
    const model = { name: 'tiny', layers: 2, heads: 4, kvHeads: 2 };
    const scores = [
      [0.9, 0.2],
      [0.2, 0.8],
    ];
    const plan = lservePlan(model, scores, { lserve: { tokenBudget: 1024 } });
    expect(plan.layers.map(({ heads }) => heads.map(({ method }) => method))).toEqual([
      ['lserve', 'lserve', 'streaming-llm', 'streaming-llm'],
      ['streaming-llm', 'streaming-llm', 'lserve', 'lserve'],
    ]);
    expect(parseHeadPlan(formatHeadPlan(plan), model)).toEqual(plan);
    // Three of four heads; of the two equal ones the earlier streams first.
    const one = lservePlan(model, scores, { streaming: 0.25 });
    expect(one.layers[0].heads[2].method).toBe('streaming-llm');
    expect(one.layers[1].heads[0].method).toBe('lserve');
    expect(() => lservePlan(model, [[1], [1]])).toThrow('numbers for 2 key-value heads of 2 layers');
    expect(() => lservePlan(model, scores, { lserve: { tokens: 3 } })).toThrow('no option "tokens"');
  });
});
