import { createReferenceBackend } from '@filigree/core-tensor';
import { anchorAttentionMethod } from '@filigree/sparse-attention';
import { afterAll, describe, expect, it } from 'vitest';
import { crafted } from './support/crafted.js';
import { span } from './support/mask-keys.js';
import { memoryOfSelecting } from './support/memory-of-selecting.js';
import { planted, type PlantedPrompt } from './support/planted.js';
import { densityOf, recallOf } from './support/recall.js';
import { disposeOutcome, keysSeen, run } from './support/run.js';

const backend = createReferenceBackend();
afterAll(() => {
  backend.dispose();
});

const sizes = { block: 16, step: 2 };

/** Keys that every query of a step sees, from the definition: exact ranges of its block, and what any block of its step keeps. */
function expectedKeys(prompt: PlantedPrompt, head: number, [from, to]: readonly [number, number], theta: number): number[][] {
  const { block, step } = sizes;
  const { dim, length } = prompt;
  const row = (rows: Float32Array, at: number): Float32Array => rows.subarray(at * dim, (at + 1) * dim);
  const kvHead = Math.floor(head / (prompt.heads / prompt.kvHeads));
  const score = (query: Float32Array, key: number): number =>
    row(prompt.k, kvHead * length + key).reduce((sum, value, d) => sum + value * query[d], 0) / Math.sqrt(dim);
  const queries = (first: number): number[] => span(first, Math.min(to, first + block));
  const exact = (first: number, position: number): number[] =>
    [...new Set([...span(0, block), ...span(first, position + 1)])].filter((key) => key <= position);
  const kept = (first: number): number[] => {
    const own = queries(first).map((position) => ({ position, q: row(prompt.q, head * length + position) }));
    const largest = own.map(({ position, q }) => Math.max(...exact(first, position).map((key) => score(q, key))));
    const anchor = largest.reduce((a, b) => a + b, 0) / own.length;
    const mean = new Float32Array(dim).map((_, d) => own.reduce((sum, { q }) => sum + q[d], 0) / own.length);
    return span(0, own[own.length - 1].position + 1).filter((key) => score(mean, key) >= anchor - theta);
  };
  return span(from, to).map((position) => {
    const [first, shared] = [block, block * step].map((size) => position - ((position - from) % size));
    const blocks = span(0, step).map((index) => shared + index * block);
    const columns = blocks.filter((at) => at < to).flatMap(kept);
    const keys = new Set([...exact(first, position), ...columns.filter((key) => key <= position)]);
    return [...keys].sort((a, b) => a - b);
  });
}

describe('AnchorAttention', () => {
  const steps = [
    ['a prompt', {}, [200, 130]],
    ['chunks that begin and end anywhere', { from: [37, 90], to: [111, 131], pageSize: 16, queryLayout: 'blhd' }, [200, 140]],
  ] as const;

  it.each(steps)('keeps what its definition says: %s', async (_name, step, lengths) => {
    const prompts = lengths.map((length, seed) => planted({ seed, length, heads: 4, kvHeads: 2, dim: 16 }));
    const outcome = await run(backend, anchorAttentionMethod.create({ ...sizes, theta: 1 }), prompts, step);
    for (const [element, prompt] of prompts.entries()) {
      const bounds = { from: [0, 0], to: lengths, ...step };
      for (const head of [0, 3]) {
        const expected = expectedKeys(prompt, head, [bounds.from[element], bounds.to[element]], 1);
        expect(outcome.attended.keys[element][head]).toEqual(expected);
      }
    }
    disposeOutcome(outcome);
  });

  it.each([
    ['a chunk of 16K tokens', { keys: 16384, queries: 2048 }],
    ['16K tokens at once', { keys: 16384, queries: 16384 }],
    ['4K tokens at once', { keys: 4096, queries: 4096 }],
  ] as const)('selects %s in less than a twentieth of the memory of keys and values', (_name, step) => {
    expect(memoryOfSelecting(anchorAttentionMethod.create(), step).scratch).toBeLessThan(0.05);
  });

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
