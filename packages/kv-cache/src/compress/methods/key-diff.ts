import { div, mul, reduce, reshape, unary } from '@filigree/core-tensor';
import { uniform } from '../budgets.js';
import { compressor, type Score, type ScoredCompressor } from '../compressor.js';
import { defineKvMethod } from '../kv-method.js';
import { asFloat, positive, rowNorms } from '../norms.js';

export interface KeyDiffOptions {
  /** Entries per head that are kept: a number, or a share of the prompt below 1. */
  readonly budget: number;
  readonly sinks: number;
  readonly recent: number;
}

/**
 * KeyDiff: keys that point elsewhere than the average key stay. The whole prompt is looked at in one piece.
 *
 * Reads every key once. Park et al., "KeyDiff: Key Similarity-Based KV Cache Eviction for Long-Context LLM Inference in Resource-Constrained Environments",
 * arXiv:2504.15364.
 *
 * @throws OptionError when an option is out of its range.
 */
export function keyDiff({ budget, sinks, recent }: KeyDiffOptions): ScoredCompressor {
  return compressor({
    id: 'key-diff',
    queries: 0,
    queryAgnostic: true,
    decodes: true,
    score: negativeCosine,
    budget: uniform('key-diff', budget),
    protect: { sinks, recent },
  });
}

/** −cos(k, mean of the keys of length 1), [Hk, length]. */
const negativeCosine: Score = ({ k, kvHeads, length }) => {
  const keys = asFloat(k);
  const unit = div(keys, positive(reshape(rowNorms(keys), [kvHeads, length, 1])));
  const anchor = reduce(unit, 'mean', { axis: 1, keepDims: true });
  const cosines = div(reduce(mul(unit, anchor), 'sum'), positive(rowNorms(anchor)));
  return unary(cosines, 'neg');
};

/** {@link keyDiff} in the catalogue. */
export const keyDiffMethod = /* @__PURE__ */ defineKvMethod({
  id: 'key-diff',
  title: 'KeyDiff: keys unlike the average',
  paper: 'arXiv:2504.15364',
  phase: 'prefill',
  training: 'none',
  queryAgnostic: true,
  ragged: false,
  options: { budget: 2048, sinks: 4, recent: 32 },
  compressor: keyDiff,
});
