import { pyramid } from '../budgets.js';
import { compressor, type ScoredCompressor } from '../compressor.js';
import { defineKvMethod } from '../kv-method.js';
import { snapKvVotes, votesWith, type SnapKvOptions } from './snap-kv.js';

export interface PyramidKvOptions extends SnapKvOptions {
  /** The average budget beside the window over that of the last layer. 1: all layers alike. */
  readonly beta: number;
}

/**
 * PyramidKV: the votes of SnapKV, with more entries in low layers than in high ones; the mean over the layers is the budget.
 * Cai et al., "PyramidKV: Dynamic KV Cache Compression based on Pyramidal Information Funneling", arXiv:2406.02069.
 *
 * @throws OptionError when an option is out of its range.
 */
export function pyramidKv(options: PyramidKvOptions): ScoredCompressor {
  const { budget, window, beta } = options;
  const layered = pyramid('pyramid-kv', { budget, window, beta });
  return compressor({ id: 'pyramid-kv', budget: layered, ...snapKvVotes('pyramid-kv', options) });
}

/** {@link pyramidKv} in the catalogue. */
export const pyramidKvMethod = /* @__PURE__ */ defineKvMethod({
  id: 'pyramid-kv',
  title: 'PyramidKV: more entries in low layers',
  paper: 'arXiv:2406.02069',
  phase: 'prefill',
  training: 'none',
  queryAgnostic: false,
  ragged: false,
  options: /* @__PURE__ */ votesWith({ window: 64, beta: 20 }),
  compressor: pyramidKv,
});
