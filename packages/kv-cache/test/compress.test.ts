import { OptionError } from '@filigree/core-tensor';
import { adaptive, chunks, kvMethod, kvMethods, perHead, pyramid, shared, uniform, type Compressor } from '@filigree/kv-cache';
import { fullTier } from '@filigree/testing';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { groupRows, poolRows } from '../src/compress/rows.js';
import { planFor } from './support/kv-plan.js';

const numRuns = fullTier ? 2000 : 200;

/** Scores of heads, few different ones so that ties are common, and a budget they hold. */
const scored = fc
  .record({ heads: fc.integer({ min: 1, max: 4 }), length: fc.integer({ min: 1, max: 24 }) })
  .chain(({ heads, length }) =>
    fc.record({
      scores: fc.array(
        fc
          .array(fc.constantFrom(-2, -1, 0, 0.5, 1, Infinity), { minLength: length, maxLength: length })
          .map((row) => Float32Array.from(row)),
        { minLength: heads, maxLength: heads },
      ),
      entries: fc.nat(length),
    }),
  );

/** The plainest choice: the largest score again and again, of equal ones the first. */
function best(row: ArrayLike<number>, count: number): number[] {
  const left = new Set(Array.from(row, (_, id) => id));
  const ids = [];
  for (let index = 0; index < count; index++) {
    let largest: number | undefined;
    for (const id of left) if (largest === undefined || row[id] > row[largest]) largest = id;
    left.delete(largest ?? 0);
    ids.push(largest ?? 0);
  }
  return ids.sort((a, b) => a - b);
}

const counts = (kept: readonly number[][]): number[] => kept.map(({ length }) => length);
const total = (kept: readonly number[][]): number => counts(kept).reduce((a, b) => a + b, 0);
const sums = (scores: readonly Float32Array[]): number[] =>
  Array.from(scores[0], (_, id) => scores.reduce((sum, row) => sum + row[id], 0));

describe('allocations', () => {
  it('per head, each takes its largest scores, of equal ones the first', () => {
    fc.assert(
      fc.property(scored, ({ scores, entries }) => {
        expect(perHead(scores, entries)).toEqual(scores.map((row) => best(row, entries)));
      }),
      { numRuns },
    );
  });

  it('shared, all heads take the largest sums', () => {
    fc.assert(
      fc.property(scored, ({ scores, entries }) => {
        expect(shared(scores, entries)).toEqual(scores.map(() => best(sums(scores), entries)));
      }),
      { numRuns },
    );
  });

  it('adaptive, heads keep the budget together, each its safe part, and nothing worse than what is left out', () => {
    fc.assert(
      fc.property(scored, fc.double({ min: 0, max: 1, noNaN: true }), ({ scores, entries }, safeguard) => {
        const kept = adaptive(safeguard)(scores, entries);
        const sure = Math.floor(safeguard * entries);
        expect(total(kept)).toBe(scores.length * entries);
        for (const [head, ids] of kept.entries()) expect(ids).toEqual(best(scores[head], ids.length));
        expect(Math.min(...counts(kept))).toBeGreaterThanOrEqual(sure);
        const beyond = kept.flatMap((ids, head) =>
          ids.filter((id) => !best(scores[head], sure).includes(id)).map((id) => scores[head][id]),
        );
        const left = scores.flatMap((row, head) => Array.from(row).filter((_, id) => !kept[head].includes(id)));
        expect(Math.min(...beyond, Infinity)).toBeGreaterThanOrEqual(Math.max(...left, -Infinity));
      }),
      { numRuns },
    );
  });

  it('adaptive with a safeguard of 1 is per head', () => {
    fc.assert(
      fc.property(scored, ({ scores, entries }) => {
        expect(adaptive(1)(scores, entries)).toEqual(perHead(scores, entries));
      }),
      { numRuns },
    );
  });

  it('adaptive, identical heads differ by one at most', () => {
    fc.assert(
      fc.property(scored, ({ scores, entries }) => {
        const kept = adaptive(0)(
          scores.map(() => scores[0]),
          entries,
        );
        expect(Math.max(...counts(kept)) - Math.min(...counts(kept))).toBeLessThanOrEqual(1);
      }),
      { numRuns },
    );
  });

  it.each([-0.1, 1.1, NaN])('adaptive takes no safeguard of %s', (safeguard) => {
    expect(() => adaptive(safeguard)).toThrow(/safeguard/);
  });

  it('chunks of one entry are shared', () => {
    fc.assert(
      fc.property(scored, ({ scores, entries }) => {
        expect(chunks(1)(scores, entries)).toEqual(shared(scores, entries));
      }),
      { numRuns },
    );
  });

  it('chunks are whole but for one, alike for all heads, and fill the budget', () => {
    fc.assert(
      fc.property(scored, fc.integer({ min: 1, max: 9 }), ({ scores, entries }, size) => {
        const kept = chunks(size)(scores, entries);
        for (const ids of kept) expect(ids).toEqual(kept[0]);
        expect(kept[0].length).toBe(entries);
        const { length } = scores[0];
        const broken = Array.from({ length: Math.ceil(length / size) }, (_, chunk) => {
          const count = kept[0].filter((id) => Math.floor(id / size) === chunk).length;
          return count > 0 && count < Math.min(size, length - chunk * size);
        });
        expect(broken.filter(Boolean).length).toBeLessThanOrEqual(1);
      }),
      { numRuns },
    );
  });

  it('chunks with the largest mean come first, a short one by its own mean', () => {
    const row = Float32Array.from([5, 0, 0, 1, 1, 1, 2]);
    expect(chunks(3)([row], 1)).toEqual([[6]]);
    expect(chunks(3)([row], 4)).toEqual([[0, 1, 2, 6]]);
    expect(chunks(3)([row], 5)).toEqual([[0, 1, 2, 3, 6]]);
  });
});

describe('rows', () => {
  const rows = [
    [1, 2],
    [3, 0],
    [10, 20],
    [30, 0],
  ].map((row) => Float32Array.from(row));

  it.each([
    [
      'mean',
      [
        [2, 1],
        [20, 10],
      ],
    ],
    [
      'max',
      [
        [3, 2],
        [30, 20],
      ],
    ],
    [
      'sum',
      [
        [4, 2],
        [40, 20],
      ],
    ],
  ] as const)('of a group become one by their %s', (reduction, expected) => {
    expect(groupRows(rows, 2, reduction).map((row) => Array.from(row))).toEqual(expected);
  });

  it('of a head of its own stay', () => {
    expect(groupRows(rows, 4, 'mean')).toEqual(rows);
  });

  it('are pooled over the entries there are', () => {
    const row = Float32Array.from([3, 0, 0, 6]);
    expect(Array.from(poolRows(row, { kind: 'avg', size: 3 }))).toEqual([1.5, 1, 2, 3]);
    expect(Array.from(poolRows(row, { kind: 'max', size: 3 }))).toEqual([3, 3, 6, 6]);
    expect(Array.from(poolRows(row, { kind: 'avg', size: 9 }))).toEqual([2.25, 2.25, 2.25, 2.25]);
  });

  it('are not pooled by a kernel of one', () => {
    const row = Float32Array.from([3, 0, 0, 6]);
    expect(poolRows(row, { kind: 'avg', size: 1 })).toBe(row);
    expect(poolRows(row, undefined)).toBe(row);
  });
});

describe('budgets', () => {
  it.each([
    [0.9, 100, 90],
    [0.1, 100, 10],
    [0.07, 100, 7],
    [0.5, 7, 4],
    [0.001, 10, 1],
    [64, 10, 64],
  ])('%s of %s are %s entries', (budget, length, entries) => {
    expect(uniform('test', budget)(length, 0, 1)).toBe(entries);
  });

  it.each([0, -1, 1.5, NaN, Infinity])('%s is no budget', (budget) => {
    expect(() => uniform('test', budget)).toThrow(OptionError);
  });

  it('of a pyramid do not grow from layer to layer, and are the budget on average', () => {
    const shape = fc.record({
      layers: fc.integer({ min: 1, max: 40 }),
      length: fc.integer({ min: 1, max: 4000 }),
      budget: fc.integer({ min: 1, max: 3000 }),
      window: fc.integer({ min: 1, max: 64 }),
      beta: fc.double({ min: 1, max: 50, noNaN: true }),
    });
    fc.assert(
      fc.property(shape, ({ layers, length, ...options }) => {
        const layered = pyramid('test', options);
        const entries = Array.from({ length: layers }, (_, layer) => layered(length, layer, layers));
        const expected = Math.min(length, options.budget);
        expect(entries.reduce((a, b) => a + b, 0)).toBe(layers * expected);
        for (const [layer, count] of entries.entries()) {
          expect(Number.isInteger(count) && count >= 0 && count <= length).toBe(true);
          if (layer > 0) expect(count).toBeLessThanOrEqual(entries[layer - 1]);
        }
      }),
      { numRuns },
    );
  });

  it('of a pyramid with beta 1 are uniform', () => {
    const layered = pyramid('test', { budget: 100, window: 8, beta: 1 });
    expect(Array.from({ length: 7 }, (_, layer) => layered(1000, layer, 7))).toEqual(new Array(7).fill(100));
  });

  it('of a pyramid fall from twice the average to a share of it', () => {
    const layered = pyramid('test', { budget: 108, window: 8, beta: 20 });
    expect([layered(1000, 0, 11), layered(1000, 5, 11), layered(1000, 10, 11)]).toEqual([203, 108, 13]);
  });

  it.each([0.5, NaN])('of a pyramid take no beta of %s', (beta) => {
    expect(() => pyramid('test', { budget: 8, window: 1, beta })).toThrow(OptionError);
  });
});

describe('the catalogue', () => {
  const plan = planFor({ heads: 4, kvHeads: 2 });

  it('has each method once, with defaults that it takes', () => {
    expect(new Set(kvMethods.map(({ id }) => id)).size).toBe(kvMethods.length);
    for (const { id, queryAgnostic, create, planned } of kvMethods)
      expect(create({}, planned ? plan : undefined)).toMatchObject({ id, queryAgnostic });
  });

  it.each(kvMethods.map(({ id }) => id))('%s names the option that it does not take', (id) => {
    const method = kvMethod(id);
    const create = (options: Readonly<Record<string, number | string>>): Compressor =>
      method.create(options, method.planned ? plan : undefined);
    expect(() => create({ nonsense: 1 })).toThrow(/nonsense/);
    expect(() => create({ budget: 'all' })).toThrow(/budget/);
    expect(() => create({ budget: 0 })).toThrow(/budget/);
    expect(() => create({ budget: 2.5 })).toThrow(OptionError);
  });
});
