import { cellPattern } from '../cell-pattern.js';
import type { Pattern } from '../mask.js';
import { checkIntegers, defineMethod } from '../method.js';

export interface DilatedOptions {
  /** Keys that a query sees, itself included. */
  readonly window: number;
  /** Distance of one to the next; 1 is a sliding window. */
  readonly dilation: number;
}

/**
 * Dilated window: the query at p sees the keys p, p − s, p − 2s, … (`window` of them, s = dilation), so the same number of keys reaches s times as far.
 * Models that were not trained with it lose the tokens between.
 *
 * Beltagy et al., "Longformer", arXiv:2004.05150; without an end to the window: the strided pattern of Child et al., arXiv:1904.10509.
 *
 * @throws OptionError when an option is not a positive integer.
 */
export function dilated({ window, dilation }: DilatedOptions): Pattern {
  checkIntegers('dilated', { window, dilation }, 1);
  return (shape) => cellPattern(shape, ({ position }) => every(position, dilation, window));
}

/** The keys position, position − step, … as ranges, `count` at most; one range when they touch. */
export function every(position: number, step: number, count: number): [number, number][] {
  if (step === 1) return [[position + 1 - count, position + 1]];
  const keys = Math.min(count, Math.floor(position / step) + 1);
  return Array.from({ length: keys }, (_, index) => [position - index * step, position - index * step + 1]);
}

/** {@link dilated} in the catalogue. */
export const dilatedMethod = /* @__PURE__ */ defineMethod({
  id: 'dilated',
  title: 'Dilated window',
  paper: 'arXiv:2004.05150',
  phase: 'both',
  training: 'full',
  emits: 'ranges with row bits',
  options: { window: 512, dilation: 2 },
  policy: (options) => ({ kind: 'pattern', pattern: dilated(options) }),
});
