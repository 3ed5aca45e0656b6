import { createReferenceBackend } from '@filigree/core-tensor';
import { attention, lowerMask, plannedAttention, planTensor, slidingWindow } from '@filigree/sparse-attention';
import { afterAll, describe, expect, it } from 'vitest';
import { attendedBy, disagreement } from './support/attended.js';
import { contextOf, disposeContext } from './support/context.js';
import { planted } from './support/planted.js';
import { exactWeights, recallOf } from './support/recall.js';

const backend = createReferenceBackend();
afterAll(() => {
  backend.dispose();
});

describe('planted prompts', () => {
  it('put the attention of every query on the verticals before it', () => {
    const prompt = planted({ seed: 1, length: 200, plantings: [{ verticals: [0, 30, 77] }] });
    for (const position of [80, 120, 199]) {
      const weights = exactWeights(prompt, 1, position);
      expect(weights[0] + weights[30] + weights[77]).toBeGreaterThan(0.95);
    }
  });

  it('put the attention of every query on the slashes', () => {
    const prompt = planted({ seed: 2, length: 300, dim: 64, plantings: [{ slashes: [0, 90] }] });
    for (const position of [100, 199, 299]) {
      const weights = exactWeights(prompt, 0, position);
      expect(weights[position] + weights[position - 90]).toBeGreaterThan(0.9);
    }
  });

  it('put the attention of a block of queries on its block of keys', () => {
    const prompt = planted({ seed: 3, length: 256, plantings: [{ blocks: [[3, 1]] }] });
    const keys = Array.from({ length: 64 }, (_, index) => 64 + index);
    expect(
      recallOf(
        prompt,
        Array.from({ length: 64 }, () => keys),
        0,
        192,
      ),
    ).toBeGreaterThan(0.95);
    expect(
      recallOf(
        prompt,
        Array.from({ length: 64 }, () => keys),
        0,
        128,
      ),
    ).toBeLessThan(0.6);
  });
});

describe('what executors saw', () => {
  const prompts = [planted({ seed: 4, length: 50 }), planted({ seed: 5, length: 37 })];

  it('is the window of a plan, whatever the pages and the lengths', async () => {
    const context = contextOf(backend, prompts, { pageSize: 16, queryLayout: 'blhd', dtype: 'f16' });
    const shape = { batch: 2, heads: 2, lenQ: [50, 37], lenK: [50, 37] };
    const plan = planTensor(backend, lowerMask(slidingWindow({ window: 9 })(shape)));
    const { q, k, v, table, queryLayout } = context;
    const { result, attended } = await attendedBy(context, () => plannedAttention(q, k, v, plan, { table, queryLayout }));
    expect(attended.keys[1][0][20]).toContain(12);
    expect(attended.keys[1][0][20]).not.toContain(21);
    expect(attended.keys[1]).toHaveLength(2);
    expect(attended.keys[1][1]).toHaveLength(37);
    expect(await disagreement(context, result, attended)).toBeUndefined();
    disposeContext(context);
  });

  it('is everything up to the query for dense attention to a chunk', async () => {
    const context = contextOf(backend, [prompts[0]], { from: [20], to: [40], spare: 5 });
    const { q, k, v, lengthsK } = context;
    const { result, attended } = await attendedBy(context, () => attention(q, k, v, { lengths: lengthsK }));
    expect(attended.keys[0][1].map((keys) => keys.length)).toEqual(Array.from({ length: 20 }, (_, query) => 21 + query));
    expect(await disagreement(context, result, attended)).toBeUndefined();
    disposeContext(context);
  });
});
