import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { median } from '../src/measure/median.js';
import { benchRecord, missedGoals, ratioOf, type Unit } from '../src/record.js';
import { formatTable } from '../src/table.js';

const measured = { suite: 'test', work: 'some work', cpu: 'here' } as const;
const better = fc.constantFrom<Unit>('tokens/s', 'GB/s', 'GOP/s');
const worse = fc.constantFrom<Unit>('ms', 'µs', 'MiB', 'bytes');
const value = fc.double({ min: 1e-3, max: 1e6, noNaN: true });

describe('a ratio', () => {
  it('is above 1 when ours is faster or smaller', () => {
    fc.assert(
      fc.property(better, worse, value, value, (rate, amount, a, b) => {
        fc.pre(a < b);
        expect(ratioOf(rate, b, a)).toBeGreaterThan(1);
        expect(ratioOf(amount, a, b)).toBeGreaterThan(1);
      }),
    );
  });

  it('is 1 for nothing against nothing', () => {
    expect(ratioOf('bytes', 0, 0)).toBe(1);
  });

  it('is 0 when ours leaves something and the peer nothing', () => {
    expect(ratioOf('bytes', 64, 0)).toBe(0);
  });
});

describe('a record', () => {
  it('misses its goal below it, and only then', () => {
    const make = (ours: number, goal?: number) =>
      benchRecord({ ...measured, ours, unit: 'tokens/s', peer: { name: 'peer', value: 100 }, goal });
    expect(missedGoals(make(69, 0.7))).toEqual(['some work against peer, 0.69 of 0.70']);
    expect(missedGoals(make(70, 0.7))).toEqual([]);
    expect(missedGoals(make(1))).toEqual([]);
  });

  it('misses its goal when it was not measured', () => {
    const record = benchRecord({ ...measured, ours: NaN, unit: 'ms', peer: { name: 'peer', value: 1 }, goal: 1 });
    expect(missedGoals(record)).toHaveLength(1);
  });

  it('misses a share of its bound, apart from its peer', () => {
    const make = (ours: number) =>
      benchRecord({
        ...measured,
        ours,
        unit: 'tokens/s',
        peer: { name: 'peer', value: 1 },
        bound: 100,
        boundGoal: 0.7,
        goal: 1,
      });
    expect(missedGoals(make(69))).toEqual(['some work against its bound, 0.69 of 0.70']);
    expect(missedGoals(make(70))).toEqual([]);
  });

  it('states the share of the bound', () => {
    expect(benchRecord({ ...measured, ours: 20, unit: 'GB/s', bound: 40 }).boundRatio).toBe(0.5);
    expect(benchRecord({ ...measured, ours: 20, unit: 'ms', bound: 10 }).boundRatio).toBe(0.5);
  });
});

describe('the table', () => {
  it('names what is below its goal', () => {
    const missed = benchRecord({ ...measured, ours: 50, unit: 'tokens/s', peer: { name: 'them', value: 100 }, goal: 0.7 });
    expect(formatTable([missed])).toContain('✖ below its goal: some work against them, 0.50 of 0.70');
    expect(formatTable([{ ...missed, goal: 0.5 }])).not.toContain('✖');
  });

  it('shows the read bandwidth beside a record, with its range when the machine changed its mind', () => {
    const at = (...speeds: number[]) => speeds.map((readGBps) => ({ readGBps, f32GFLOPs: 1, int8GOPs: 1 }));
    const record = benchRecord({ ...measured, ours: 50, unit: 'tokens/s', ceilings: at(40, 41, 40.5) });
    expect(formatTable([record])).toContain(' 40.5 ');
    expect(formatTable([{ ...record, ceilings: at(30, 41, 40.5) }])).toContain('40.5 (30.0–41.0)');
  });
});

describe('the median', () => {
  it('lies between as many values as it lies under', () => {
    fc.assert(
      fc.property(fc.array(value, { minLength: 1 }), (values) => {
        const middle = median(values);
        const below = values.filter((item) => item < middle).length;
        const above = values.filter((item) => item > middle).length;
        expect(below).toBeLessThanOrEqual(values.length / 2);
        expect(above).toBeLessThanOrEqual(values.length / 2);
      }),
    );
  });

  it('of nothing is refused', () => {
    expect(() => median([])).toThrow(RangeError);
  });
});
