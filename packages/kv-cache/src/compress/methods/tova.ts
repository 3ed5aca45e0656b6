import { shared } from '../allocate.js';
import { uniform } from '../budgets.js';
import { compressor, type ScoredCompressor } from '../compressor.js';
import { defineKvMethod } from '../kv-method.js';
import { attentionReceived } from '../probabilities.js';

export interface TovaOptions {
  /** Entries that are kept, the same for all heads of a layer: a number, or a share of the prompt below 1. */
  readonly budget: number;
}

/**
 * TOVA: what the last query attends to most, on average over all heads of the layer; one list per layer.
 *
 * 4 · length · D operations per query head. Oren et al., "Transformers are Multi-State RNNs", arXiv:2401.06104.
 *
 * @throws OptionError when the budget is out of its range.
 */
export function tova({ budget }: TovaOptions): ScoredCompressor {
  return compressor({
    id: 'tova',
    queries: 1,
    queryAgnostic: false,
    decodes: true,
    score: attentionReceived,
    budget: uniform('tova', budget),
    allocation: shared,
  });
}

/** {@link tova} in the catalogue. */
export const tovaMethod = /* @__PURE__ */ defineKvMethod({
  id: 'tova',
  title: 'TOVA: what the last query looks at',
  paper: 'arXiv:2401.06104',
  phase: 'prefill',
  training: 'none',
  queryAgnostic: false,
  ragged: false,
  options: { budget: 2048 },
  compressor: tova,
});
