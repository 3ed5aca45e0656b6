import { createNativeBackend } from '@filigree/backend-native';
import { OptionError, Random } from '@filigree/core-tensor';
import { compressKv, compressor, shared, snapKv } from '@filigree/kv-cache';
import * as fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { kept, planted, randomLayer } from './support/compress-context.js';

const backend = createNativeBackend({ fallback: 'error' });
afterAll(() => {
  backend.dispose();
});

const shape = { heads: 4, kvHeads: 2, length: 60, dim: 8 };
const options = { budget: 16, window: 4, kernel: 3, minPerLayer: 4 };

describe('CompressKV', () => {
  it('with all heads is SnapKV with one list', async () => {
    const data = randomLayer(new Random(1), shape);
    const { parts } = snapKv({ budget: 16, window: 4, kernel: 3, pool: 'avg', group: 'mean' });
    const snap = compressor({ ...parts, allocation: shared });
    expect(await kept(backend, compressKv({ heads: [[0, 1, 2, 3]] }, options), data)).toEqual(await kept(backend, snap, data));
  });

  it('keeps a needle that a voting head looks at, and drops it where the others vote', async () => {
    const large = { heads: 8, kvHeads: 2, length: 1000, dim: 64 };
    const data = planted(new Random(2), large, { needle: 300, asking: 4 });
    const { heads, length, dim } = large;
    // All other heads look away from the needle.
    for (let row = length - 4; row < length; row++)
      for (let head = 0; head < heads; head++) {
        const at = (row * heads + head) * dim;
        if (head !== 1)
          data.q.set(
            data.q.slice(at, at + dim).map((value) => -value),
            at,
          );
      }
    const votes = { ...options, budget: 5, kernel: 1 };
    for (const ids of await kept(backend, compressKv({ heads: [[1]] }, votes), data)) expect(ids).toContain(300);
    for (const ids of await kept(backend, compressKv({ heads: [[0, 2, 3]] }, votes), data)) expect(ids).not.toContain(300);
  });

  it('keeps the budget on average over the layers, at least what each is sure of', () => {
    const cases = fc.record({
      errors: fc.array(fc.double({ min: 0, max: 10, noNaN: true }), { minLength: 1, maxLength: 30 }),
      budget: fc.integer({ min: 1, max: 500 }),
      length: fc.integer({ min: 1, max: 1000 }),
      minPerLayer: fc.integer({ min: 1, max: 40 }),
    });
    fc.assert(
      fc.property(cases, ({ errors, budget, length, minPerLayer }) => {
        const made = compressKv({ heads: [], errors }, { ...options, budget, minPerLayer });
        const counts = errors.map((_, layer) => made.budget(length, layer, errors.length));
        const entries = Math.min(length, budget);
        expect(counts.reduce((a, b) => a + b, 0)).toBe(errors.length * entries);
        for (const count of counts) {
          expect(count).toBeGreaterThanOrEqual(Math.min(entries, minPerLayer));
          expect(count).toBeLessThanOrEqual(Math.min(length, 3 * entries));
        }
      }),
    );
  });

  it('divides equal errors equally, and more to the larger one', () => {
    const counts = (errors: readonly number[]): number[] =>
      errors.map((_, layer) => compressKv({ heads: [], errors }, options).budget(1000, layer, errors.length));
    expect(counts([0.3, 0.3, 0.3])).toEqual([16, 16, 16]);
    expect(counts([0, 0, 0])).toEqual([16, 16, 16]);
    expect(counts([0.1, 0.2, 0.3])).toEqual([10, 16, 22]);
  });

  it('refuses what is of another model', async () => {
    const data = randomLayer(new Random(3), shape);
    await expect(kept(backend, compressKv({ heads: [[0], [1]] }, options), data)).rejects.toThrow(OptionError);
    for (const heads of [[[]], [[4]], [[-1]], [[0.5]]])
      await expect(kept(backend, compressKv({ heads }, options), data)).rejects.toThrow(/heads of layer 0/);
    expect(() => compressKv({ heads: [], errors: [1, -1] }, options)).toThrow(/error 1 is -1/);
    expect(() => compressKv({ heads: [], errors: [1] }, options).budget(100, 0, 2)).toThrow(/errors of 1 layers/);
    expect(() => compressKv({ heads: [] }, { ...options, kernel: 2 })).toThrow(/kernel/);
    expect(() => compressKv({ heads: [] }, { ...options, minPerLayer: 0 })).toThrow(/minPerLayer/);
  });
});
