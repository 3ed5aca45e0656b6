import { adaptive } from '../allocate.js';
import { uniform } from '../budgets.js';
import { compressor, type ScoredCompressor } from '../compressor.js';
import { defineKvMethod } from '../kv-method.js';
import { snapKvVotes, votesWith, type SnapKvOptions } from './snap-kv.js';

export interface AdaKvOptions extends SnapKvOptions {
  /** Share of its budget that every head is sure of. 1: SnapKV. */
  readonly safeguard: number;
}

/**
 * Ada-KV over SnapKV: the heads of a layer share one budget; entries with most votes are kept in whichever head they are.
 * Feng et al., "Ada-KV: Optimizing KV Cache Eviction by Adaptive Budget Allocation for Efficient LLM Inference", arXiv:2407.11550.
 *
 * @throws OptionError when an option is out of its range.
 */
export function adaKv(options: AdaKvOptions): ScoredCompressor {
  const allocation = adaptive(options.safeguard);
  return compressor({ id: 'ada-kv', budget: uniform('ada-kv', options.budget), allocation, ...snapKvVotes('ada-kv', options) });
}

/** {@link adaKv} in the catalogue. */
export const adaKvMethod = /* @__PURE__ */ defineKvMethod({
  id: 'ada-kv',
  title: 'Ada-KV: one budget for the heads of a layer',
  paper: 'arXiv:2407.11550',
  phase: 'prefill',
  training: 'none',
  queryAgnostic: false,
  ragged: true,
  options: /* @__PURE__ */ votesWith({ safeguard: 0.2 }),
  compressor: adaKv,
});
