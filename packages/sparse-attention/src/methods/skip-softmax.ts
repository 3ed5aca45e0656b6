import { OptionError } from '@filigree/core-tensor';
import { defineMethod } from '../method.js';
import type { ExecutorOptions } from '../selector.js';

export interface SkipSoftmaxOptions {
  /** Threshold times length; 0: nothing is skipped. */
  readonly scale: number;
  /** Share of tiles to skip, for which the scale becomes a · e^(b · share); 0: `scale` holds. */
  readonly targetSparsity: number;
  /** Calibrated per model and phase. */
  readonly a: number;
  readonly b: number;
}

/**
 * Skip softmax (BLASST): a tile whose weights would all be below λ = scale / length of what a query has met so far is left out, with its values and its
 * exponentials. Scores are still computed, so that at most about half of a prompt's attention is saved, and the values' traffic when decoding.
 *
 * The default scale is what halves the tiles of a 30B model's prompt (16.5 when decoding); what it does to another model has to be measured, and a target
 * share needs calibrated a and b. It is guidance, not a guarantee. With λ ≥ 1, a length up to the scale, attention is dense.
 *
 * "BLASST: Dynamic Blocked Attention Sparsity via Softmax Thresholding", arXiv:2512.12087.
 *
 * @throws OptionError when an option is negative, the target is not below 1, or a target comes without a.
 */
export function skipSoftmax({ scale, targetSparsity, a, b }: SkipSoftmaxOptions): (lenK: number) => ExecutorOptions {
  for (const [name, value] of Object.entries({ scale, a }))
    if (!(value >= 0 && value < Infinity))
      throw new OptionError(`skip-softmax: ${name} is ${value}, it must be a number of at least 0`);
  if (!Number.isFinite(b)) throw new OptionError(`skip-softmax: b is ${b}, it must be a number`);
  if (!(targetSparsity >= 0 && targetSparsity < 1))
    throw new OptionError(`skip-softmax: targetSparsity is ${targetSparsity}, it must lie in 0 … 1`);
  if (targetSparsity > 0 && a === 0)
    throw new OptionError('skip-softmax: a is 0; a target sparsity takes the a and b of a calibration');
  const chosen = targetSparsity > 0 ? a * Math.exp(b * targetSparsity) : scale;
  return (lenK) => (chosen > 0 && lenK > chosen ? { pvSkip: Math.log(lenK / chosen) } : {});
}

/** {@link skipSoftmax} in the catalogue. */
export const skipSoftmaxMethod = /* @__PURE__ */ defineMethod({
  id: 'skip-softmax',
  title: 'Skip softmax (BLASST)',
  paper: 'arXiv:2512.12087',
  phase: 'both',
  training: 'calibration',
  emits: 'an option of the executor',
  options: { scale: 587, targetSparsity: 0, a: 0, b: 0 },
  policy: (options) => ({ kind: 'executor', options: skipSoftmax(options) }),
});
