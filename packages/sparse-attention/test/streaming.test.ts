import { createReferenceBackend } from '@filigree/core-tensor';
import {
  headGroups,
  moaWindow,
  slidingWindow,
  slidingWindowMethod,
  streaming,
  streamingLlm,
  triangleMix,
  triangleMixMethod,
  triShape,
} from '@filigree/sparse-attention';
import { afterAll, describe, expect, it } from 'vitest';
import { keysOf, patternKeys, span } from './support/mask-keys.js';
import { planted } from './support/planted.js';
import { densityOf, recallOf } from './support/recall.js';
import { disposeOutcome, keysSeen, run } from './support/run.js';

const backend = createReferenceBackend();
afterAll(() => {
  backend.dispose();
});

describe('streaming', () => {
  it('shows sinks and window, and nothing between', () => {
    const [keys] = patternKeys(streaming({ sinks: 3, window: 10 }), 70);
    for (const [query, seen] of keys.entries()) {
      const window = span(Math.max(0, query - 9), query + 1);
      expect(seen).toEqual([...new Set([...span(0, Math.min(3, query + 1)), ...window])]);
    }
  });

  it('shows everything when the window is the prompt', () => {
    expect(patternKeys(streaming({ sinks: 0, window: 50 }), 50)[0]).toEqual(span(0, 50).map((query) => span(0, query + 1)));
  });

  it('does not find a needle outside of the window, unless the last rows see everything', async () => {
    const prompt = planted({ seed: 1, length: 300, heads: 2, plantings: [{ verticals: [120] }] });
    const window = { sinks: 4, window: 64 };
    const without = await keysSeen(backend, streamingLlm.create(window), prompt);
    const within = await keysSeen(backend, triShape.create({ ...window, lastRows: 5 }), prompt);
    expect(recallOf(prompt, without[0].slice(295), 0, 295)).toBeLessThan(0.3);
    expect(recallOf(prompt, within[0].slice(295), 0, 295)).toBeCloseTo(1, 6);
    expect(within[0].slice(0, 295)).toEqual(without[0].slice(0, 295));
    expect(densityOf(within[0])).toBeLessThan(0.5);
  });

  it('counts the last rows from the end of the prompt, whatever the chunk', () => {
    const pattern = streaming({ sinks: 1, window: 4, lastRows: 10 });
    const chunk = { batch: 1, heads: 1, lenQ: [20], lenK: [80] };
    const [inside] = keysOf(pattern({ ...chunk, promptEnd: [100] }));
    const [atEnd] = keysOf(pattern(chunk));
    expect(inside[19]).toHaveLength(5);
    expect(atEnd[19]).toHaveLength(80);
    expect(atEnd[9]).toHaveLength(5);
  });
});

describe('TriangleMix', () => {
  it('is dense before its first layer', async () => {
    const prompt = planted({ seed: 2, length: 90 });
    const keys = await keysSeen(
      backend,
      triangleMixMethod.create({ startLayer: 1, sinks: 2, window: 10, lastRows: 1 }),
      prompt,
    );
    expect(keys[0][80]).toHaveLength(81);
    const sparse = await keysSeen(
      backend,
      triangleMixMethod.create({ startLayer: 0, sinks: 2, window: 10, lastRows: 1 }),
      prompt,
    );
    expect(sparse[0][80]).toHaveLength(12);
    expect(sparse[0][89]).toHaveLength(90);
  });

  it('is a plan of dense and of tri-shape layers', () => {
    const plan = triangleMix({ name: 'test', layers: 4, heads: 2, kvHeads: 1 }, { startLayer: 3, window: 9 });
    expect([0, 1, 2, 3].map((layer) => headGroups(plan, layer).map(({ method }) => method))).toEqual([
      ['dense'],
      ['dense'],
      ['dense'],
      ['tri-shape'],
    ]);
    expect(headGroups(plan, 3)[0].options).toMatchObject({ sinks: 8, window: 9 });
  });
});

describe('sliding window', () => {
  it('of one token gives its value', async () => {
    const prompt = planted({ seed: 3, length: 50, heads: 1 });
    const outcome = await run(backend, slidingWindowMethod.create({ window: 1 }), [prompt]);
    const o = await outcome.o.readNumbers();
    expect(Array.from(o)).toEqual(Array.from(prompt.v, (value) => expect.closeTo(value, 5)));
    disposeOutcome(outcome);
  });

  it('passes information over d · (window − 1) positions in d layers', () => {
    const [keys] = patternKeys(slidingWindow({ window: 7 }), 60);
    let reached = new Set([59]);
    for (let layers = 1; layers <= 4; layers++) {
      reached = new Set([...reached].flatMap((query) => keys[query]));
      expect([...reached].sort((a, b) => a - b)).toEqual(span(59 - layers * 6, 60));
    }
  });
});

describe('MoA window', () => {
  it('grows with the prompt in whole blocks', () => {
    const pattern = moaWindow({ alpha: 8, beta: 0.25, sinkBlocks: 1, block: 8 });
    for (const length of [40, 96, 160]) {
      const blocks = Math.round((8 + 0.25 * length) / 8);
      const [keys] = patternKeys(pattern, length);
      for (const query of [0, length / 2, length - 1]) {
        const own = Math.floor(query / 8);
        const first = Math.max(0, own + 1 - blocks) * 8;
        expect(keys[query]).toEqual(
          [...new Set([...span(0, Math.min(8, query + 1)), ...span(first, query + 1)])].sort((a, b) => a - b),
        );
      }
    }
  });

  it('gives local heads short spans and global heads everything', () => {
    const [local] = patternKeys(moaWindow({ alpha: 16, beta: 0, sinkBlocks: 0, block: 16 }), 200);
    const [global] = patternKeys(moaWindow({ alpha: 0, beta: 1, sinkBlocks: 1, block: 16 }), 200);
    expect(Math.max(...local.map((keys) => keys.length))).toBe(16);
    expect(global[199]).toHaveLength(200);
  });

  it('has the span of the whole prompt in every chunk of it', () => {
    const pattern = moaWindow({ alpha: 0, beta: 0.5, sinkBlocks: 0, block: 16 });
    const [whole] = patternKeys(pattern, 128);
    const [chunk] = keysOf(pattern({ batch: 1, heads: 1, lenQ: [20], lenK: [100], promptEnd: [128] }));
    expect(chunk).toEqual(whole.slice(80, 100));
  });
});
