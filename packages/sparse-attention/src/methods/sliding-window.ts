import type { MaskShape, Pattern } from '../mask.js';
import { checkIntegers, defineMethod } from '../method.js';
import { rangePattern } from '../range-pattern.js';

/**
 * Sliding window: key j is visible to the query at p iff 0 ≤ p − j < window. Native to Mistral- and Gemma-style models.
 *
 * @throws OptionError when window is not a positive integer.
 */
export function slidingWindow({ window }: { window: number }): Pattern {
  checkIntegers('sliding-window', { window }, 1);
  return (shape: MaskShape) => rangePattern(shape, (position) => [[position + 1 - window, position + 1]]);
}

/** {@link slidingWindow} in the catalogue. */
export const slidingWindowMethod = /* @__PURE__ */ defineMethod({
  id: 'sliding-window',
  title: 'Sliding window',
  paper: 'arXiv:2004.05150',
  phase: 'both',
  training: 'none',
  emits: 'ranges',
  options: { window: 512 },
  policy: (options) => ({ kind: 'pattern', pattern: slidingWindow(options) }),
});
