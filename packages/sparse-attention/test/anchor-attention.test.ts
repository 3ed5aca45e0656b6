import { createReferenceBackend } from '@filigree/core-tensor';
import { anchorAttentionMethod } from '@filigree/sparse-attention';
import { afterAll, describe, expect, it } from 'vitest';
import { crafted } from './support/crafted.js';
import { span } from './support/mask-keys.js';
import { planted } from './support/planted.js';
import { densityOf, recallOf } from './support/recall.js';
import { keysSeen } from './support/run.js';

const backend = createReferenceBackend();
afterAll(() => {
  backend.dispose();
});

const sizes = { block: 16, step: 2 };

describe('AnchorAttention', () => {
  it('keeps a column within theta of the anchor and drops one beyond', async () => {
    const scores = new Map([
      [0, 10],
      [100, 8],
      [150, 4],
    ]);
    const prompt = crafted(256, (position) => scores.get(position) ?? 0);
    const [keys] = await keysSeen(backend, anchorAttentionMethod.create({ ...sizes, theta: 3 }), prompt);
    expect(keys[255]).toContain(100);
    expect(keys[255]).not.toContain(150);
    const [more] = await keysSeen(backend, anchorAttentionMethod.create({ ...sizes, theta: 7 }), prompt);
    expect(more[255]).toEqual([...span(0, 16), 100, 150, ...span(240, 256)]);
  });

  it('is the first block and the query’s own for a theta below everything', async () => {
    const prompt = planted({ seed: 1, length: 200 });
    const [keys] = await keysSeen(backend, anchorAttentionMethod.create({ ...sizes, theta: -1e9 }), prompt);
    for (const [query, seen] of keys.entries()) {
      const own = span(16 * Math.floor(query / 16), query + 1);
      expect(seen).toEqual([...new Set([...span(0, Math.min(16, query + 1)), ...own])]);
    }
  });

  it('shares stripes among the blocks of a step', async () => {
    // The key at 40 is what the third block of queries looks for, and only that one.
    const prompt = crafted(
      128,
      (position) => (position === 40 ? 12 : 0),
      (position) => (position >= 96 && position < 112 ? 1 : 0),
    );
    const [keys] = await keysSeen(backend, anchorAttentionMethod.create({ ...sizes, theta: -5 }), prompt);
    for (const query of [96, 111, 127]) expect(keys[query]).toContain(40);
    expect(keys[90]).not.toContain(40);
  });

  it('holds the attention of planted verticals at a part of the cells', async () => {
    const verticals = [5, 77, 140];
    const prompt = planted({ seed: 2, length: 384, plantings: [{ verticals }] });
    const keys = await keysSeen(backend, anchorAttentionMethod.create({ ...sizes, theta: 4 }), prompt);
    for (const head of [0, 1]) {
      expect(recallOf(prompt, keys[head], head)).toBeGreaterThan(0.95);
      expect(densityOf(keys[head])).toBeLessThan(0.4);
    }
    for (const query of [100, 200, 383])
      expect(keys[0][query]).toEqual(expect.arrayContaining(verticals.filter((key) => key <= query)));
  });
});
