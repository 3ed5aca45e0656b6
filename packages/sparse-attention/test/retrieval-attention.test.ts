import { createNativeBackend } from '@filigree/backend-native';
import { ExecutionError, scope } from '@filigree/core-tensor';
import { attendByPolicy, retrievalAttentionMethod, type MethodOptions } from '@filigree/sparse-attention';
import { afterAll, beforeEach, describe, expect, it } from 'vitest';
import { contextOf, disposeContext } from './support/context.js';
import { fixture } from './support/fixtures.js';
import { span } from './support/mask-keys.js';
import { memories } from './support/memories.js';
import { planted, type PlantedPrompt } from './support/planted.js';
import { exactWeights } from './support/recall.js';
import { keysSeen } from './support/run.js';

const backend = createNativeBackend({ threads: 2, fallback: 'error' });
afterAll(() => {
  backend.dispose();
});

let memory: ReturnType<typeof memories>;
beforeEach(() => {
  memory = memories();
  return () => {
    memory.dispose();
  };
});

const options = { sinks: 2, recent: 5, topK: 12, batch: 3 };

/** Keys that the query at `position` sees, per head. */
async function seenAt(prompt: PlantedPrompt, position: number, own: MethodOptions): Promise<number[][]> {
  const step = { from: [position], to: [position + 1], decode: true, pageSize: 16, memory };
  const keys = await keysSeen(backend, retrievalAttentionMethod.create({ ...options, ...own }), prompt, step);
  return keys.map(([query]) => query);
}

/** Share of the best keys between sinks and recent ones that was seen, over heads. */
function recall(prompt: PlantedPrompt, position: number, seen: readonly number[][]): number {
  const shares = seen.map((keys, head) => {
    const weights = exactWeights(prompt, head, position);
    const best = span(2, position - 4).sort((a, b) => weights[b] - weights[a]);
    return best.slice(0, 12).filter((key) => keys.includes(key)).length / 12;
  });
  return shares.reduce((a, b) => a + b, 0) / shares.length;
}

describe('RetrievalAttention', () => {
  const prompt = planted({ seed: 1, length: 300, heads: 4, kvHeads: 2 });

  it('sees sinks, recent keys and exactly the best of the others with a flat index', async () => {
    const seen = await seenAt(prompt, 250, { index: 'flat' });
    expect(recall(prompt, 250, seen)).toBe(1);
    for (const keys of seen) {
      expect(keys).toEqual(expect.arrayContaining([0, 1, ...span(246, 251)]));
      expect(keys).toHaveLength(2 + 5 + 12);
    }
  });

  it.each(['flat', 'ivf', 'graph'])('keeps up with new keys in a %s index', async (index) => {
    const shares: number[] = [];
    for (const position of span(230, 260)) {
      const seen = await seenAt(prompt, position, { index, trainSteps: 10, degree: 16, ef: 64 });
      for (const keys of seen) {
        expect(new Set(keys).size).toBe(keys.length);
        // Keys go into the index three at a time, so that up to two more are seen.
        expect(keys.length).toBeGreaterThanOrEqual(19);
        expect(keys.length).toBeLessThanOrEqual(21);
      }
      shares.push(recall(prompt, position, seen));
    }
    const mean = shares.reduce((a, b) => a + b, 0) / shares.length;
    expect(mean).toBeGreaterThan(index === 'ivf' ? 0.3 : 0.85);
  });

  it('finds the needle among keys of one size', async () => {
    const { prompt: hard, needles } = fixture('hardPlanted', { seed: 3, length: 2000, heads: 4 });
    const seen = await seenAt(hard, 1999, {});
    for (const [head, keys] of seen.entries()) expect(keys).toContain(needles[head]);
  });

  it('begins anew once its memory is cleared', async () => {
    const one = await seenAt(prompt, 250, {});
    memory.sequence.clear();
    const other = planted({ seed: 2, length: 300, heads: 4, kvHeads: 2 });
    expect(recall(other, 250, await seenAt(other, 250, {}))).toBe(1);
    expect(one).not.toEqual(await seenAt(other, 250, {}));
  });

  it('refuses to select without waiting, and what is no index', () => {
    const context = contextOf(backend, [prompt], { from: [299], decode: true });
    const policy = retrievalAttentionMethod.create(options);
    expect(() => scope(() => attendByPolicy(context, policy))).toThrow(ExecutionError);
    disposeContext(context);
    expect(() => retrievalAttentionMethod.create({ index: 'tree' })).toThrow('index is tree');
    expect(() => retrievalAttentionMethod.create({ topK: 0 })).toThrow('topK is 0');
  });
});
