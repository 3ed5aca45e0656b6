import { OptionError } from '@filigree/core-tensor';
import type { MaskShape, Pattern } from '../mask.js';
import { rangePattern } from '../range-pattern.js';

/**
 * Sliding window: key j is visible to the query at p iff 0 ≤ p − j < window. Native to Mistral- and Gemma-style models.
 *
 * @throws OptionError when window is not a positive integer.
 */
export function slidingWindow({ window }: { window: number }): Pattern {
  if (!Number.isInteger(window) || window < 1)
    throw new OptionError(`slidingWindow: window is ${window}, it must be a positive integer`);
  return (shape: MaskShape) => rangePattern(shape, (position) => [[position + 1 - window, position + 1]]);
}
