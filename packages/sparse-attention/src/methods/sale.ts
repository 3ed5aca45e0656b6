import { add, OptionError } from '@filigree/core-tensor';
import { checkChoice, checkIntegers, defineMethod } from '../method.js';
import { plannedAttention } from '../ops/planned-attention.js';
import { loweredWithRanges, sinksAndWindow } from '../select/lowered-with-ranges.js';
import { quantDot } from '../select/quant-dot.js';
import { selectRow } from '../select/select-row.js';
import { constant, isShort, placed } from '../select/step.js';
import type { Selector } from '../selector.js';

export interface SaleOptions {
  /** Weight relative to all of sinks and window from which on a key keeps its block; 0: dense. */
  readonly threshold: number;
  readonly blockQ: number;
  readonly blockK: number;
  /** First keys, attended to exactly. */
  readonly sinks: number;
  /** Newest keys, attended to exactly. */
  readonly localWindow: number;
  /** Bits of the numbers that estimates multiply. */
  readonly bits: 4 | 8;
  /** Up to so many keys attention is dense. */
  readonly denseBelow: number;
}

/**
 * SALE: low-bit estimates of every score, relative to attention over sinks and a window. These are executed first, exactly; a block of keys follows if the estimate of
 * any of its scores reaches e^score ≥ threshold · Σ e^(scores of sinks and window) for its query.
 *
 * The estimate is a product of whole numbers over all cells. Thresholds are found per head (a plan of heads); the default is where that search starts. Scores with a
 * softcap are estimated without it.
 * Ji et al., "SALE: Low-bit Estimation for Efficient Sparse Attention in Long-context LLM Prefilling", arXiv:2505.24179.
 *
 * @throws OptionError when an option is out of its range.
 */
export function sale({ threshold, blockQ, blockK, sinks, localWindow, bits, denseBelow }: SaleOptions): Selector {
  checkIntegers('sale', { blockQ, blockK, localWindow }, 1);
  checkIntegers('sale', { sinks, denseBelow });
  if (!(threshold >= 0 && threshold < Infinity))
    throw new OptionError(`sale: threshold is ${threshold}, it must be a number of at least 0`);
  const exact = sinksAndWindow(sinks, localWindow);
  return {
    select(context) {
      if (threshold === 0 || isShort(context, denseBelow)) return 'dense';
      const { q, k, v, table, scale, softcap, queryLayout, lengths } = context;
      const first = loweredWithRanges(context, exact, {}, { blockQ });
      const done = plannedAttention(q, k, v, first.plan, { table, scale, softcap, queryLayout });
      const limit = add(done.lse, constant(context, [Math.log(threshold)], [1, 1, 1]));
      const above = quantDot(q, k, limit, { ...placed(context), scale, bits, blockQ, blockK });
      const { bits: blocks } = selectRow(above, { lengths, threshold: 0, blockQ, blockK });
      const second = loweredWithRanges(context, exact, { blocks }, { blockQ, blockK, excluded: exact.length });
      return { parts: [{ done, cells: first.cells }, second] };
    },
  };
}

/** {@link sale} in the catalogue. */
export const saleMethod = /* @__PURE__ */ defineMethod({
  id: 'sale',
  title: 'SALE: low-bit estimates',
  paper: 'arXiv:2505.24179',
  phase: 'prefill',
  training: 'calibration',
  emits: 'ranges, then blocks',
  options: { threshold: 0.008, blockQ: 64, blockK: 32, sinks: 32, localWindow: 128, bits: 4, denseBelow: 1024 },
  policy: ({ bits, ...options }) => ({
    kind: 'selector',
    selector: sale({ ...options, bits: checkChoice('sale', 'bits', bits, [4, 8]) }),
  }),
});
