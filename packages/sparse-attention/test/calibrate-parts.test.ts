import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { chooseWithin, type Choosable } from '../src/calibrate/choose.js';
import { fitExponential } from '../src/calibrate/fit-exponential.js';
import { countSkipped } from '../src/calibrate/skip-softmax.js';

/** Least loss of all combinations that keep the limits; undefined when none does. */
function exhaustive(heads: readonly (readonly Choosable[])[], limits: readonly number[]): number | undefined {
  let best: number | undefined;
  const visit = (head: number, loss: number, costs: readonly number[]): void => {
    if (head === heads.length) {
      const keeps = costs.every((cost, index) => cost <= limits[index] * heads.length * (1 + 1e-9));
      if (keeps && (best === undefined || loss < best)) best = loss;
      return;
    }
    for (const candidate of heads[head])
      visit(
        head + 1,
        loss + candidate.loss,
        candidate.costs.map((cost, index) => costs[index] + cost),
      );
  };
  visit(
    0,
    0,
    limits.map(() => 0),
  );
  return best;
}

describe('chooseWithin', () => {
  it('loses as little as the best of all combinations, under one limit and under two', () => {
    const unit = fc.integer({ min: 0, max: 20 }).map((value) => value / 20);
    const problem = fc.integer({ min: 1, max: 2 }).chain((constraints) =>
      fc.record({
        heads: fc.array(
          fc.array(fc.record({ loss: unit, costs: fc.array(unit, { minLength: constraints, maxLength: constraints }) }), {
            minLength: 1,
            maxLength: 4,
          }),
          { minLength: 1, maxLength: 6 },
        ),
        limits: fc.array(unit, { minLength: constraints, maxLength: constraints }),
      }),
    );
    fc.assert(
      fc.property(problem, ({ heads, limits }) => {
        const best = exhaustive(heads, limits);
        if (best === undefined) {
          expect(() => chooseWithin(heads, limits)).toThrow(/no choice of candidates keeps the budget/);
          return;
        }
        const picks = chooseWithin(heads, limits);
        const loss = picks.reduce((sum, pick, head) => sum + heads[head][pick].loss, 0);
        expect(loss).toBeCloseTo(best, 9);
        for (const [index, limit] of limits.entries()) {
          const cost = picks.reduce((sum, pick, head) => sum + heads[head][pick].costs[index], 0);
          expect(cost).toBeLessThanOrEqual(limit * heads.length * (1 + 1e-9));
        }
      }),
      { numRuns: 300 },
    );
  });

  it('keeps the limit and comes near the best with as many heads as a model has', () => {
    const heads = Array.from({ length: 270 }, (_, head) =>
      Array.from({ length: 20 }, (_, index) => ({
        loss: (1 - index / 19) ** 2 * (1 + (head % 7)),
        costs: [index / 19],
      })),
    );
    const picks = chooseWithin(heads, [0.4]);
    const cost = picks.reduce((sum, pick) => sum + pick / 19, 0) / 270;
    expect(cost).toBeLessThanOrEqual(0.4 + 1e-9);
    expect(cost).toBeGreaterThan(0.39);
    // The same share for all heads is one of the combinations.
    const even = heads.reduce((sum, candidates) => sum + candidates[7].loss, 0);
    const loss = picks.reduce((sum, pick, head) => sum + heads[head][pick].loss, 0);
    expect(loss).toBeLessThan(even);
  });
});

describe('fitExponential', () => {
  it('finds the law that its points follow', () => {
    const points = [0.05, 0.2, 0.4, 0.6, 0.8, 0.95].map((sparsity) => ({
      sparsity,
      // What lies outside of 10 to 90 % may be anything.
      scale: sparsity < 0.1 || sparsity > 0.9 ? 1e9 : 3 * Math.exp(7 * sparsity),
    }));
    const { a, b } = fitExponential(points);
    expect(a).toBeCloseTo(3, 9);
    expect(b).toBeCloseTo(7, 9);
  });

  it('refuses points that say nothing', () => {
    expect(() => fitExponential([{ sparsity: 0.01, scale: 1 }])).toThrow(/give longer texts/);
    const same = { sparsity: 0.5, scale: 1 };
    expect(() => fitExponential([same, same])).toThrow(/give longer texts/);
  });
});

describe('countSkipped', () => {
  it('counts no tile where every tile holds a new maximum, and all later ones where none comes near the first', () => {
    const [length, columns] = [128, 2];
    const rising = Float32Array.from({ length: length * columns }, (_, index) => (index % 2 === 0 ? 0.1 : 1));
    expect(countSkipped(rising, 1, length).prefill.every((share) => share === 0)).toBe(true);
    const falling = Float32Array.from({ length: length * columns }, (_, index) => (index % 2 === 0 ? 1 : 0.04));
    const { prefill, decode } = countSkipped(falling, 1, length);
    // Visible tiles: (0, 0), (1, 0), (1, 1); the last of them goes at thresholds above 0.04.
    expect(prefill.filter((share) => share > 0).map((share) => share.toFixed(3))).toEqual(Array(9).fill('0.333'));
    expect(prefill.at(-1)).toBeCloseTo(1 / 3, 9);
    expect(decode.at(-1)).toBeCloseTo(1 / 2, 9);
  });

  it('skips a tile of a prompt only when all of its queries would', () => {
    const [length, columns] = [128, 2];
    const tops = Float32Array.from({ length: length * columns }, (_, index) => (index % 2 === 0 ? 1 : 0.001));
    tops[100 * columns + 1] = 1;
    const { prefill, decode } = countSkipped(tops, 1, length);
    expect(prefill.at(-1)).toBe(0);
    expect(decode.at(-1)).toBeCloseTo(63 / 128, 9);
  });
});
