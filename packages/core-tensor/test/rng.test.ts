import { OptionError, philox4x32, Random } from '@filigree/core-tensor';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';

const hex = (words: Uint32Array): string[] => [...words].map((word) => word.toString(16).padStart(8, '0'));

describe('philox4x32', () => {
  // Known answers published with Random123 for philox4x32-10.
  it.each([
    [
      [0, 0],
      [0, 0, 0, 0],
      ['6627e8d5', 'e169c58d', 'bc57ac4c', '9b00dbd8'],
    ],
    [
      [0xffffffff, 0xffffffff],
      [0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff],
      ['408f276d', '41c83b0e', 'a20bc7c6', '6d5451fd'],
    ],
    [
      [0xa4093822, 0x299f31d0],
      [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
      ['d16cfe09', '94fdcceb', '5001e420', '24126ea1'],
    ],
  ] as const)('gives the published words for key %j and counter %j', (key, counter, words) => {
    expect(hex(philox4x32(key, counter))).toEqual(words);
  });
});

/** `count` draws of a fresh stream. */
function draws(count: number, draw: (random: Random) => number): number[] {
  const random = new Random(1);
  return Array.from({ length: count }, () => draw(random));
}

const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;

describe('Random', () => {
  it('repeats itself for the same seed and stream', () => {
    fc.assert(
      fc.property(fc.maxSafeInteger().map(Math.abs), fc.nat(), (seed, stream) => {
        const [a, b] = [new Random(seed, stream), new Random(seed, stream)];
        for (let draw = 0; draw < 9; draw++) expect(a.nextWord()).toBe(b.nextWord());
      }),
    );
  });

  it('differs between seeds and between streams, in their upper halves too', () => {
    const words = [0, 1, 2 ** 32, 2 ** 32 + 1, Number.MAX_SAFE_INTEGER].flatMap((seed) =>
      [0, 1, 2 ** 32, Number.MAX_SAFE_INTEGER].map((stream) => {
        const random = new Random(seed, stream);
        return [random.nextWord(), random.nextWord()].join();
      }),
    );
    expect(new Set(words).size).toBe(20);
  });

  it('is uniform on [0, 1): mean 1/2, variance 1/12', () => {
    const values = draws(20_000, (random) => random.nextFloat());
    expect(Math.min(...values)).toBeGreaterThanOrEqual(0);
    expect(Math.max(...values)).toBeLessThan(1);
    // Five standard errors.
    expect(Math.abs(mean(values) - 0.5)).toBeLessThan(5 * Math.sqrt(1 / 12 / values.length));
    expect(mean(values.map((value) => (value - 0.5) ** 2))).toBeCloseTo(1 / 12, 2);
  });

  it('is normal: mean 0, variance 1, kurtosis 3', () => {
    const values = draws(20_000, (random) => random.nextNormal());
    expect(values.every(Number.isFinite)).toBe(true);
    expect(Math.abs(mean(values))).toBeLessThan(5 / Math.sqrt(values.length));
    expect(Math.abs(mean(values.map((value) => value ** 2)) - 1)).toBeLessThan(5 * Math.sqrt(2 / values.length));
    expect(Math.abs(mean(values.map((value) => value ** 4)) - 3)).toBeLessThan(5 * Math.sqrt(96 / values.length));
  });

  it('draws integers below any bound, each equally often', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 2 ** 32 }), fc.nat(), (bound, seed) => {
        const value = new Random(seed).nextInt(bound);
        expect(Number.isInteger(value) && value >= 0 && value < bound).toBe(true);
      }),
    );
    const counts = [0, 0, 0];
    for (const value of draws(30_000, (random) => random.nextInt(3))) counts[value]++;
    for (const count of counts) expect(Math.abs(count - 10_000)).toBeLessThan(5 * Math.sqrt(30_000 * (2 / 9)));
  });

  it('draws without modulo bias where 2³² mod bound is large', () => {
    // With plain `word % bound` the lower third of [0, 3·2³⁰) would come twice as often.
    const bound = 3 * 2 ** 30;
    const low = draws(6000, (random) => random.nextInt(bound)).filter((value) => value < 2 ** 30).length;
    expect(Math.abs(low / 6000 - 1 / 3)).toBeLessThan(5 * Math.sqrt(2 / 9 / 6000));
  });

  it.each([-1, 0.5, NaN, 2 ** 53, Infinity])('refuses %s as a seed and as a stream', (value) => {
    expect(() => new Random(value)).toThrow(OptionError);
    expect(() => new Random(0, value)).toThrow(OptionError);
  });

  it.each([0, -3, 1.5, NaN, 2 ** 32 + 1])('refuses %s as a bound', (bound) => {
    expect(() => new Random(0).nextInt(bound)).toThrow(OptionError);
  });
});
