import type { KvFormat } from './layout.js';

/** The upper half of the levels of 2^bits that are nearest to a normal variable on average (Lloyd–Max). */
const upperLevels: Readonly<Partial<Record<KvFormat, readonly number[]>>> = {
  turbo4: [0.12839503, 0.388048299, 0.656759119, 0.942340456, 1.256231197, 1.618046386, 2.069017227, 2.732589571],
  turbo2: [0.452780035, 1.510417608],
};

/** What a level stands for, and where one ends: codes count the thresholds below a number. */
export interface Levels {
  /** Ascending, of numbers whose mean square is 1. */
  readonly values: readonly number[];
  /** Between neighbours of the nearest levels; of 12 significant bits, so that products with half-precision scales are exact in f32. */
  readonly thresholds: readonly number[];
}

/** The levels of formats that have some. */
export function levelsOf(format: KvFormat): Levels | undefined {
  const upper = upperLevels[format];
  if (!upper) return undefined;
  const nearest = [...upper.map((level) => -level).reverse(), ...upper];
  return {
    values: nearest.map(Math.fround),
    thresholds: nearest.slice(1).map((level, index) => shortened((level + nearest[index]) / 2)),
  };
}

const short = /* @__PURE__ */ new Float32Array(1);
const shortBits = /* @__PURE__ */ new Uint32Array(short.buffer);

/** The leading 12 bits of a number of f32: its square, and its product with such a number, are exact in f32. */
export function shortened(value: number): number {
  short[0] = value;
  shortBits[0] &= 0xfffff000;
  return short[0];
}
