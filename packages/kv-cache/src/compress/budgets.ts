import { OptionError } from '@filigree/core-tensor';
import type { Budget } from './compressor.js';

/**
 * The same number of entries in every layer: a whole number, or below 1 the share of the prompt that is kept, rounded up.
 * @throws OptionError when the budget is neither.
 */
export function uniform(method: string, budget: number): Budget {
  if (budget > 0 && budget < 1) return (length) => Math.max(1, Math.ceil(budget * length - 1e-9));
  if (!Number.isInteger(budget) || budget < 1)
    throw new OptionError(`${method}: budget is ${budget}, it must be a positive number of entries, or a share below 1`);
  return () => budget;
}

/**
 * More entries in low layers, fewer in high ones, in equal steps; their mean is the budget exactly. With C entries beside the window on average, the last
 * layer gets C / beta and the first 2C less that.
 *
 * Cai et al., "PyramidKV", arXiv:2406.02069.
 * @throws OptionError when beta is below 1.
 */
export function pyramid(method: string, { budget, window, beta }: { budget: number; window: number; beta: number }): Budget {
  if (!(beta >= 1)) throw new OptionError(`${method}: beta is ${beta}, it must be at least 1`);
  const mean = uniform(method, budget);
  return (length, layer, layers) => {
    const entries = Math.min(length, mean(length, layer, layers));
    const beside = entries - window;
    if (beside <= 0 || layers === 1) return entries;
    let least = beside / beta;
    let most = 2 * beside - least;
    if (most > length - window) {
      most = length - window;
      least = 2 * beside - most;
    }
    const terms = Array.from({ length: layers }, (_, index) => most - (index * (most - least)) / (layers - 1));
    const whole = terms.map((term) => Math.floor(term + 1e-9));
    // What rounding down left goes to the lowest layers that have room, so that none has less than a later one.
    let left = layers * beside - whole.reduce((sum, term) => sum + term, 0);
    for (let index = 0; index <= layer; index++) {
      if (left <= 0 || whole[index] >= length - window) continue;
      whole[index]++;
      left--;
    }
    return window + whole[layer];
  };
}
