import { createReferenceBackend, OptionError } from '@filigree/core-tensor';
import {
  blockTopK,
  denseLayers,
  reuseLayers,
  reuseSteps,
  reuseWhileSimilar,
  topKeys,
  type SelectionMemories,
  type Selector,
} from '@filigree/sparse-attention';
import { afterAll, beforeEach, describe, expect, it } from 'vitest';
import { memories } from './support/memories.js';
import { planted, type PlantedPrompt } from './support/planted.js';
import { disposeOutcome, keysSeen, run } from './support/run.js';

const backend = createReferenceBackend();
afterAll(() => {
  backend.dispose();
});

const exact = (topK: number): Selector => topKeys({ topK, groupReduce: 'none' }) as Selector;
const policyOf = (selector: Selector) => ({ kind: 'selector', selector }) as const;

/** The selector, and the layers in which it was asked. */
function counted(selector: Selector): { selector: Selector; asked: number[] } {
  const asked: number[] = [];
  return {
    asked,
    selector: {
      ...selector,
      select(context, state) {
        asked.push(context.layer);
        return selector.select(context, state);
      },
    },
  };
}

let memory: SelectionMemories & { dispose(): void };
beforeEach(() => {
  memory = memories();
  return () => {
    memory.dispose();
  };
});

/** Layers whose keys are noise of their own but for one needle, which all have. */
const layers = Array.from({ length: 4 }, (_, seed) => planted({ seed, length: 200, plantings: [{ verticals: [77] }] }));

/** Keys that the last query sees, [layers][heads]. */
async function seenInLayers(selector: Selector, own: SelectionMemories | 'none' = memory): Promise<number[][][]> {
  const seen: number[][][] = [];
  for (const [layer, prompt] of layers.entries()) {
    const options = { from: [199], decode: true, layer, layers: layers.length, ...(own === 'none' ? {} : { memory: own }) };
    const keys = await keysSeen(backend, policyOf(selector), prompt, options);
    seen.push(keys.map(([query]) => query));
  }
  return seen;
}

describe('reuseLayers', () => {
  it('shows later layers what an earlier one selected', async () => {
    const { selector, asked } = counted(exact(4));
    const seen = await seenInLayers(reuseLayers(selector, { select: [0, 2] }));
    expect(asked).toEqual([0, 2]);
    expect(seen[1]).toEqual(seen[0]);
    expect(seen[3]).toEqual(seen[2]);
    expect(seen[2]).not.toEqual(seen[0]);
    for (const keys of seen.flat()) expect(keys).toEqual(expect.arrayContaining([77, 199]));
  });

  it('selects in every layer when all of them select', async () => {
    expect(await seenInLayers(reuseLayers(exact(9), { select: [0, 1, 2, 3] }))).toEqual(await seenInLayers(exact(9)));
  });

  it('is dense before the first selection, and in selecting layers if asked to', async () => {
    const seen = await seenInLayers(reuseLayers(exact(9), { select: [1], denseSelect: true }));
    expect(seen.map(([keys]) => keys.length)).toEqual([200, 200, 9, 9]);
  });

  it('is dense behind a layer that had too few keys to choose from', async () => {
    const seen = await seenInLayers(reuseLayers(exact(500), { select: [0] }));
    expect(seen.map(([keys]) => keys.length)).toEqual([200, 200, 200, 200]);
  });

  it('refuses plans, and contexts that remember nothing', async () => {
    const plans = blockTopK({ block: 16, topK: 2, denseBelow: 0 });
    await expect(seenInLayers(reuseLayers(plans, { select: [0] }))).rejects.toThrow('answers with a plan');
    await expect(seenInLayers(reuseLayers(exact(4), { select: [0] }), 'none')).rejects.toThrow('no memory');
    expect(() => reuseLayers(exact(4), { select: [0.5] })).toThrow(OptionError);
  });
});

/** Keys that a step sees whose query is at `position`, [heads]. */
async function seenAt(selector: Selector, prompt: PlantedPrompt, position: number): Promise<number[][]> {
  const options = { from: [position], to: [position + 1], decode: true, pageSize: 16, memory };
  return (await keysSeen(backend, policyOf(selector), prompt, options)).map(([query]) => query);
}

describe('reuseSteps', () => {
  const prompt = planted({ seed: 8, length: 120, plantings: [{ verticals: [33] }] });

  it('selects in every n-th step, and shows the keys that came since', async () => {
    const { selector, asked } = counted(exact(6));
    const reusing = reuseSteps(selector, 3);
    const seen: number[][] = [];
    for (let position = 100; position < 107; position++) seen.push((await seenAt(reusing, prompt, position))[0]);
    expect(asked).toHaveLength(3);
    expect(seen[1]).toEqual([...seen[0], 101]);
    expect(seen[2]).toEqual([...seen[0], 101, 102]);
    expect(seen[3]).toHaveLength(6);
    for (const keys of seen) expect(keys).toContain(33);
  });

  it('selects in every step for n = 1', () => {
    const selector = exact(6);
    expect(reuseSteps(selector, 1)).toBe(selector);
    expect(() => reuseSteps(selector, 0)).toThrow(OptionError);
  });

  it('selects anew when a step does not follow, or what was kept is forgotten', async () => {
    const { selector, asked } = counted(exact(6));
    const reusing = reuseSteps(selector, 4);
    await seenAt(reusing, prompt, 100);
    for (const position of [100, 99, 104, 110]) await seenAt(reusing, prompt, position);
    // The fourth lies behind the last that selected by more than three; 104 after 99 does too.
    expect(asked).toHaveLength(5);
    memory.sequence.clear();
    await seenAt(reusing, prompt, 111);
    expect(asked).toHaveLength(6);
  });

  it('counts the cells that it shows', async () => {
    const reusing = policyOf(reuseSteps(exact(6), 4));
    for (const position of [100, 101]) {
      const options = { from: [position], to: [position + 1], decode: true, memory };
      const outcome = await run(backend, reusing, [prompt], options);
      expect(outcome.attended.keys[0][0][0]).toHaveLength(position === 100 ? 6 : 7);
      disposeOutcome(outcome);
    }
  });

  it('keeps elements of a batch apart', async () => {
    const prompts = [prompt, planted({ seed: 9, length: 120, plantings: [{ verticals: [20] }] })];
    const reusing = policyOf(reuseSteps(exact(6), 4));
    const seen: number[][][] = [];
    for (const step of [0, 1]) {
      const [one, two] = [100 + step, 60 + step];
      const options = { from: [one, two], to: [one + 1, two + 1], decode: true, pageSize: 16, memory };
      const outcome = await run(backend, reusing, prompts, options);
      seen.push(outcome.attended.keys.map(([[keys]]) => keys));
      disposeOutcome(outcome);
    }
    expect(seen[1]).toEqual([
      [...seen[0][0], 101],
      [...seen[0][1], 61],
    ]);
  });
});

describe('reuseWhileSimilar', () => {
  const prompt = planted({ seed: 8, length: 120, plantings: [{ verticals: [33] }] });
  /** The same query at every position, or one that is orthogonal to the query before. */
  const withQueries = (turning: boolean): PlantedPrompt => ({
    ...prompt,
    q: prompt.q.map((_, index) => {
      const [position, channel] = [Math.floor(index / 32) % 120, index % 32];
      return channel === (turning ? position % 2 : 0) ? 5 : 0;
    }),
  });

  it('selects once for queries that stay as they are, and in every step for those that turn', async () => {
    for (const turning of [false, true]) {
      memory.sequence.clear();
      const { selector, asked } = counted(exact(6));
      const seen: number[][] = [];
      for (let position = 100; position < 105; position++)
        seen.push((await seenAt(reuseWhileSimilar(selector, 0.9), withQueries(turning), position))[0]);
      expect(asked).toHaveLength(turning ? 5 : 1);
      expect(seen[4]).toHaveLength(turning ? 6 : 10);
      if (!turning) expect(seen[4]).toEqual([...seen[0], 101, 102, 103, 104]);
    }
  });

  it('refuses cosines that are none, and selectors that wait themselves', () => {
    expect(() => reuseWhileSimilar(exact(6), 1.5)).toThrow('cosine is 1.5');
    const waiting = reuseWhileSimilar(exact(6), 0.5);
    expect(() => reuseWhileSimilar(waiting, 0.5)).toThrow('waits for the host');
    expect(() => reuseSteps(waiting, 2)).toThrow('waits for the host');
    expect(() => reuseLayers(waiting, { select: [0] })).toThrow('waits for the host');
  });
});

describe('denseLayers', () => {
  it('shows the first layers everything', async () => {
    const seen = await seenInLayers(denseLayers(exact(9), 2));
    expect(seen.map(([keys]) => keys.length)).toEqual([200, 200, 9, 9]);
    const selector = exact(9);
    expect(denseLayers(selector, 0)).toBe(selector);
    const waiting = await seenInLayers(denseLayers(reuseWhileSimilar(exact(9), 1), 2));
    expect(waiting.map(([keys]) => keys.length)).toEqual([200, 200, 9, 9]);
  });
});
