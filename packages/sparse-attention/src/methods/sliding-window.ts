import type { Pattern } from '../mask.js';
import { checkIntegers, defineMethod } from '../method.js';
import { rangePattern } from '../range-pattern.js';

/**
 * Sliding window: key j is visible to the query at p iff 0 ≤ p − j < window, so a window of 1 is the query itself. Native to Mistral- and
 * Gemma-style models, whose layers keep their own; lossy for others: d layers pass information over d · (window − 1) positions.
 *
 * Beltagy et al., "Longformer: The Long-Document Transformer", arXiv:2004.05150.
 *
 * @throws OptionError when window is not a positive integer.
 */
export function slidingWindow({ window }: { readonly window: number }): Pattern {
  checkIntegers('sliding-window', { window }, 1);
  // Row blocks list the union of their windows; the plan's own window tells the queries apart.
  return (shape) => ({ ...rangePattern(shape, (position) => [[position + 1 - window, position + 1]]), window });
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
