import { describe, expect, it } from 'vitest';
import { bootstrap, meanOf, median, wilson } from '../src/index.js';

describe('wilson', () => {
  it('agrees with tabulated intervals', () => {
    // R: binom::binom.wilson(c(0, 5, 81, 10), c(10, 10, 263, 10)).
    const expected = [
      [0, 10, 0, 0.2775],
      [5, 10, 0.2366, 0.7634],
      [81, 263, 0.2553, 0.3662],
      [10, 10, 0.7225, 1],
    ];
    for (const [successes, trials, low, high] of expected) {
      expect(wilson(successes, trials).low).toBeCloseTo(low, 4);
      expect(wilson(successes, trials).high).toBeCloseTo(high, 4);
    }
  });

  it('says nothing without trials', () => {
    expect(wilson(0, 0)).toEqual({ low: 0, high: 1 });
  });
});

describe('bootstrap', () => {
  const groups = Array.from({ length: 12 }, (_, group) =>
    Array.from({ length: 10 }, (__, value) => Math.sin(13 * group + value)),
  );

  it('is the same for the same seed', () => {
    expect(bootstrap(groups, 7)).toEqual(bootstrap(groups, 7));
    expect(bootstrap(groups, 8)).not.toEqual(bootstrap(groups, 7));
  });

  it('holds the mean, and is a point where all values are one', () => {
    const { mean } = meanOf(groups.flat());
    const { low, high } = bootstrap(groups);
    expect(low).toBeLessThan(mean);
    expect(high).toBeGreaterThan(mean);
    expect(bootstrap([[2, 2], [2]])).toEqual({ low: 2, high: 2 });
  });

  it('is wider where values of a group are alike than where they are mixed', () => {
    const alike = Array.from({ length: 10 }, (_, group) => new Array<number>(10).fill(group % 2));
    const mixed = Array.from({ length: 10 }, () => Array.from({ length: 10 }, (_, value) => value % 2));
    const width = ({ low, high }: { low: number; high: number }): number => high - low;
    expect(width(bootstrap(alike))).toBeGreaterThan(1.5 * width(bootstrap(mixed)));
  });

  it('has about the width of the normal interval for independent values', () => {
    const singles = Array.from({ length: 100 }, (_, index) => [Math.sin(17 * index)]);
    const { stderr } = meanOf(singles.flat());
    const { low, high } = bootstrap(singles);
    expect((high - low) / (2 * 1.96 * stderr)).toBeCloseTo(1, 1);
  });

  it('is unknown without values', () => {
    expect(bootstrap([[]]).low).toBeNaN();
  });
});

describe('meanOf and median', () => {
  it('are those of the books', () => {
    expect(meanOf([1, 2, 3, 4])).toEqual({ mean: 2.5, stderr: Math.sqrt(5 / 3 / 4), count: 4 });
    expect(meanOf([3])).toEqual({ mean: 3, stderr: 0, count: 1 });
    expect([median([3, 1, 2]), median([4, 1, 2, 3])]).toEqual([2, 2.5]);
  });
});
