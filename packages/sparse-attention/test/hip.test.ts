import { createReferenceBackend } from '@filigree/core-tensor';
import { hipMethod } from '@filigree/sparse-attention';
import { afterAll, describe, expect, it } from 'vitest';
import { crafted } from './support/crafted.js';
import { span } from './support/mask-keys.js';
import { keysSeen } from './support/run.js';

const backend = createReferenceBackend();
afterAll(() => {
  backend.dispose();
});

const sizes = { maskK: 32, blockQ: 16, blockK: 2, window: 1, sink: 0 };

/** Share of the best `count` keys before the query's own block that it sees. */
function found(keys: readonly number[], score: (key: number) => number, count: number, before: number): number {
  const best = span(0, before)
    .sort((a, b) => score(b) - score(a))
    .slice(0, count);
  return best.filter((key) => keys.includes(key)).length / count;
}

describe('HiP', () => {
  it.each([30, 150, 333, 430])('finds the best keys of a smooth landscape with its top at %i', async (top) => {
    const score = (key: number): number => 8 - Math.abs(key - top) / 16;
    const [keys] = await keysSeen(backend, hipMethod.create(sizes), crafted(512, score));
    expect(found(keys[511], score, 24, 496)).toBeGreaterThan(0.9);
    expect(keys[511].length).toBeLessThanOrEqual(32 + 16);
  });

  it('misses most spikes of a single key, and more of them the fewer nodes it has', async () => {
    const recall: number[] = [];
    for (const maskK of [16, 64, 256, 512]) {
      let hits = 0;
      for (let trial = 0; trial < 12; trial++) {
        const spike = 17 + 37 * trial;
        const score = (key: number): number => (key === spike ? 9 : Math.cos(key));
        const [keys] = await keysSeen(backend, hipMethod.create({ ...sizes, maskK }), crafted(512, score));
        if (keys[511].includes(spike)) hits++;
      }
      recall.push(hits / 12);
    }
    expect([...recall].sort((a, b) => a - b)).toEqual(recall);
    expect(recall[0]).toBeLessThan(0.5);
    expect(recall[3]).toBe(1);
  });

  it('sees sinks and window beside what it finds', async () => {
    const options = { ...sizes, maskK: 2, sink: 5, window: 40 };
    const [keys] = await keysSeen(
      backend,
      hipMethod.create(options),
      crafted(256, (key) => (key < 100 ? 5 : 0)),
    );
    expect(keys[255]).toEqual(expect.arrayContaining([...span(0, 5), ...span(241 - 40, 256)]));
  });

  it('refuses a maskK that blocks do not fill', () => {
    expect(() => hipMethod.create({ maskK: 33, blockK: 2 })).toThrow('hip: maskK is 33');
  });
});
