import type { KvFormat, KvSide } from './layout.js';

/** The upper half of the levels of 2^bits that are nearest to a normal variable on average (Lloyd–Max), and the squared error that they leave of it. */
const upperLevels: Readonly<Record<2 | 4, readonly number[]>> = {
  2: [0.452780035, 1.510417608],
  4: [0.12839503, 0.388048299, 0.656759119, 0.942340456, 1.256231197, 1.618046386, 2.069017227, 2.732589571],
};
const errors: Readonly<Record<2 | 4, number>> = { 2: 0.117481848, 4: 0.009501008 };

/** What a level stands for, and where one ends: codes count the thresholds below a number. */
export interface Levels {
  /** Ascending, of numbers whose mean square is 1. */
  readonly values: readonly number[];
  /** Between neighbours of the nearest levels; of 12 significant bits, so that products with half-precision scales are exact in f32. */
  readonly thresholds: readonly number[];
}

/**
 * The levels of formats that have some. Of values they are the nearest ones. Those shrink what they stand for along itself by the error they leave,
 * which softmax would take for a higher temperature, so levels of keys are as much longer: products with queries are right on average.
 */
export function levelsOf(format: KvFormat, side: KvSide): Levels | undefined {
  if (format !== 'turbo4' && format !== 'turbo2') return undefined;
  const bits = format === 'turbo4' ? 4 : 2;
  const upper = upperLevels[bits];
  const nearest = [...upper.map((level) => -level).reverse(), ...upper];
  const longer = side === 'keys' ? 1 / (1 - errors[bits]) : 1;
  return {
    values: nearest.map((level) => Math.fround(level * longer)),
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
