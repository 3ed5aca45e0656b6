import { fromArray, mul } from '@filigree/core-tensor';
import { checkIntegers } from '@filigree/sparse-attention';
import { uniform } from '../budgets.js';
import { compressor, type ScoredCompressor } from '../compressor.js';
import { defineKvMethod } from '../kv-method.js';
import { asFloat, rowNorms, timesEntries } from '../norms.js';
import { attentionReceived } from '../probabilities.js';

export interface H2oOptions {
  /** Entries per head that are kept, the newest among them: a number, or a share of the prompt below 1. */
  readonly budget: number;
  /** Newest entries that stay: a number, or a share of the budget below 1. */
  readonly recent: number;
  /** Divides what an entry received by the number of queries that could see it; else old entries are at an advantage. */
  readonly normalizeByAge: boolean;
  /** Multiplies by the length of the value. */
  readonly valueNorm: boolean;
}

/**
 * H2O: heavy hitters, the entries that received most attention from all queries so far, and the newest ones.
 *
 * 4 · length² · D operations per query head. Zhang et al., "H2O: Heavy-Hitter Oracle for Efficient Generative Inference of Large Language Models",
 * arXiv:2306.14048.
 *
 * @throws OptionError when an option is out of its range.
 */
export function h2o({ budget, recent, normalizeByAge, valueNorm }: H2oOptions): ScoredCompressor {
  const share = recent > 0 && recent < 1;
  if (!share) checkIntegers('h2o', { recent });
  return compressor({
    id: 'h2o',
    queries: 'all',
    queryAgnostic: false,
    // Ages of entries are known of prompts alone.
    decodes: !normalizeByAge,
    accumulates: !normalizeByAge,
    score: (context) => {
      const { backend, length, q, v } = context;
      let sums = attentionReceived(context);
      if (normalizeByAge) {
        const seen = Float32Array.from({ length }, (_, entry) => 1 / Math.min(q.shape[1], length - entry));
        sums = mul(sums, fromArray(backend, seen, [1, length]));
      }
      return valueNorm ? timesEntries(context, sums, rowNorms(asFloat(v))) : sums;
    },
    group: 'sum',
    budget: uniform('h2o', budget),
    protect: { recent: share ? (entries) => Math.floor(recent * entries) : recent },
  });
}

/** {@link h2o} in the catalogue. */
export const h2oMethod = /* @__PURE__ */ defineKvMethod({
  id: 'h2o',
  title: 'H2O: heavy hitters and the newest entries',
  paper: 'arXiv:2306.14048',
  phase: 'both',
  training: 'none',
  queryAgnostic: false,
  ragged: false,
  options: { budget: 2048, recent: 0.5, normalizeByAge: false, valueNorm: false },
  compressor: h2o,
});
