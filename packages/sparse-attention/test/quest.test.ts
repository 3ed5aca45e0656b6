import { createReferenceBackend, OptionError } from '@filigree/core-tensor';
import { quest, questMethod, type PageBounds } from '@filigree/sparse-attention';
import { afterAll, describe, expect, it } from 'vitest';
import { contextOf, disposeContext, stateFor } from './support/context.js';
import { span } from './support/mask-keys.js';
import { planted, type PlantedPrompt } from './support/planted.js';
import { exactWeights } from './support/recall.js';
import { keysSeen } from './support/run.js';

const backend = createReferenceBackend();
afterAll(() => {
  backend.dispose();
});

const options = { pageSize: 8, tokenBudget: 64, minPages: 3, denseLayers: 0 };
const step = { from: [511], decode: true, pageSize: 32 };

/** Greatest score of each page, and the bound of each, for the last query of head 0. */
function pageScores({ q, k, dim, length }: PlantedPrompt, pageSize: number): { best: number; bound: number }[] {
  const query = q.subarray((length - 1) * dim, length * dim);
  return span(0, length / pageSize).map((page) => {
    const keys = span(page * pageSize, (page + 1) * pageSize).map((key) => k.subarray(key * dim, (key + 1) * dim));
    const sum = (of: (channel: number) => number): number => span(0, dim).reduce((total, channel) => total + of(channel), 0);
    return {
      best: Math.max(...keys.map((key) => sum((channel) => query[channel] * key[channel]))),
      bound: sum((channel) => Math.max(...keys.map((key) => query[channel] * key[channel]))),
    };
  });
}

describe('Quest', () => {
  it.each(span(0, 8).map((depth) => 3 + 63 * depth))('finds a needle at %i', async (needle) => {
    const prompt = planted({ seed: needle, length: 512, plantings: [{ verticals: [needle] }] });
    const keys = await keysSeen(backend, questMethod.create(options), prompt, step);
    for (const head of [0, 1]) {
      expect(keys[head][0]).toContain(needle);
      expect(keys[head][0]).toHaveLength(64);
    }
  });

  it('sees whole pages, those with the greatest bounds and its own', async () => {
    const prompt = planted({ seed: 3, length: 512, heads: 1 });
    const [[keys]] = await keysSeen(backend, questMethod.create(options), prompt, step);
    const pages = pageScores(prompt, 8);
    const seen = new Set(keys.map((key) => Math.floor(key / 8)));
    expect(seen.size).toBe(8);
    expect(seen).toContain(63);
    const left = pages.filter((_, page) => !seen.has(page));
    const taken = pages.filter((_, page) => seen.has(page) && page !== 63);
    const least = Math.min(...taken.map(({ bound }) => bound));
    expect(Math.max(...left.map(({ bound }) => bound))).toBeLessThanOrEqual(least);
    for (const { best, bound } of pages) expect(bound).toBeGreaterThanOrEqual(best - 1e-5);
  });

  it('has the same bounds whether keys come one by one or at once', async () => {
    const prompt = planted({ seed: 4, length: 70, kvHeads: 2 });
    const policy = quest({ ...options, groupReduce: 'none' });
    const context = contextOf(backend, [prompt], { pageSize: 16, dtype: 'f16' });
    const states = [1, 70].map((tokens) => stateFor(policy, [prompt], context, tokens) as PageBounds);
    for (const name of ['keyMin', 'keyMax'] as const) {
      // The last page has two keys of sixteen; what the pages after it hold is nobody's.
      const [one, all] = await Promise.all(states.map((state) => state[name].readNumbers()));
      const table = await context.table?.readNumbers();
      const row = 2 * 2 * 32;
      for (const page of table ?? []) {
        const used = page === table?.[4] ? [0, 32] : [0, row];
        for (const at of span(used[0], used[1])) expect(one[page * row + at]).toBe(all[page * row + at]);
      }
    }
    for (const state of states) policy.dispose?.(state);
    disposeContext(context);
  });

  it('shares pages among the query heads of a key-value head when sums are taken', async () => {
    const prompt = planted({ seed: 5, length: 512, heads: 4, kvHeads: 2, plantings: [{ verticals: [200] }] });
    const keys = await keysSeen(backend, questMethod.create({ ...options, groupReduce: 'sum' }), prompt, step);
    expect(keys[1]).toEqual(keys[0]);
    expect(keys[3]).toEqual(keys[2]);
    for (const [own] of keys) expect(own).toContain(200);
    expect(exactWeights(prompt, 0, 511)[200]).toBeGreaterThan(0.9);
  });

  it('refuses pages that the cache has not', () => {
    const layer = {
      backend,
      layer: 0,
      layers: 1,
      heads: 1,
      kvHeads: 1,
      headDim: 4,
      pages: 1,
      pageSize: 32,
      dtype: 'f32',
    } as const;
    expect(() => quest({ ...options, pageSize: 24, groupReduce: 'none' }).init?.(layer)).toThrow(OptionError);
    expect(() => questMethod.create({ groupReduce: 'max' })).toThrow('groupReduce is max');
  });
});
