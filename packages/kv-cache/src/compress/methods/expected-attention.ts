import {
  add,
  concat,
  fromArray,
  matmul,
  mul,
  OptionError,
  permute,
  reduce,
  reshape,
  slice,
  softmax,
  sub,
  type Tensor,
} from '@filigree/core-tensor';
import { checkIntegers } from '@filigree/sparse-attention';
import { uniform } from '../budgets.js';
import { compressor, type CompressContext, type ScoredCompressor } from '../compressor.js';
import { meanRotation, unrotated } from '../future-queries.js';
import { defineKvMethod } from '../kv-method.js';
import { asFloat, rowNorms, timesEntries } from '../norms.js';

export interface ExpectedAttentionOptions {
  /** Entries per head that are kept: a number, or a share of the prompt below 1. */
  readonly budget: number;
  /** Positions behind the prompt that queries are expected at. */
  readonly future: number;
  /** First entries, which stay, and whose queries are left out. */
  readonly sinks: number;
  readonly covariance: boolean;
  readonly valueNorm: boolean;
  /** Added to the probability before it is multiplied by the length of the value. */
  readonly eps: number;
}

/**
 * Expected Attention: what queries to come will attend to, when they are normally distributed as those of the prompt were and stand at the positions behind it.
 *
 * A logit that is normal with mean m and variance s has E exp = exp(m + s / 2), so that no attention is computed: 2 · length · D² operations per query head,
 * and the same for the covariance of queries. A cap of logits is not taken into account.
 *
 * Devoto et al., "Expected Attention: KV Cache Compression by Estimating Attention from Future Queries Distribution", arXiv:2510.00636.
 *
 * @throws OptionError when an option is out of its range.
 */
export function expectedAttention(options: ExpectedAttentionOptions): ScoredCompressor {
  const { budget, future, sinks, valueNorm, eps } = options;
  checkIntegers('expected-attention', { future }, 1);
  if (!(eps >= 0)) throw new OptionError(`expected-attention: eps is ${eps}, it must not be negative`);
  return compressor({
    id: 'expected-attention',
    queries: 'all',
    queryAgnostic: true,
    score: (context) => {
      const { backend, heads, kvHeads, length, v } = context;
      const skipped = Math.min(sinks, length - 1);
      const logits = expectedLogits(context, { ...options, sinks: skipped });
      let scores = add(softmax(logits), fromArray(backend, [eps], [1]));
      if (valueNorm) {
        const values = slice(asFloat(v), [0, skipped, 0], [kvHeads, length - skipped, v.shape[2]]);
        scores = timesEntries(context, scores, rowNorms(values));
      }
      if (skipped === 0) return scores;
      return concat([fromArray(backend, new Float32Array(heads * skipped), [heads, skipped]), scores], 1);
    },
    budget: uniform('expected-attention', budget),
    protect: { sinks },
  });
}

/** Logarithms of the expected exponentials of logits of the entries from `sinks` on: f32 [Hq, length − sinks]. */
export function expectedLogits(
  context: CompressContext,
  { future, sinks, covariance }: Pick<ExpectedAttentionOptions, 'future' | 'sinks' | 'covariance'>,
): Tensor {
  const { backend, k, heads, kvHeads, length, scale } = context;
  const [count, dim] = [length - sinks, k.shape[2]];
  const group = heads / kvHeads;
  const queries = permute(unrotated(context, sinks), [1, 0, 2]);
  const turn = meanRotation(context, future);
  const mean = reduce(queries, 'mean', { axis: 1, keepDims: true });
  const keys = slice(asFloat(k), [0, sinks, 0], [kvHeads, count, dim]);
  const turned = reshape(matmul(mean, turn), [kvHeads, group, dim]);
  const means = reshape(matmul(turned, keys, { transposeB: true }), [heads, count]);
  const scaled = mul(means, fromArray(backend, [scale], [1]));
  if (!covariance) return scaled;
  const apart = sub(queries, mean);
  const products = matmul(apart, apart, { transposeA: true });
  const turnedOnce = matmul(products, turn);
  const turnedTwice = matmul(turn, turnedOnce, { transposeA: true });
  // Side by side, so that a key meets the query heads of its group in one product: [Hk, D, G · D].
  const beside = reshape(permute(reshape(turnedTwice, [kvHeads, group, dim, dim]), [0, 2, 1, 3]), [kvHeads, dim, group * dim]);
  const halves = reshape(matmul(keys, beside), [kvHeads, count, group, dim]);
  const squares = permute(reduce(mul(halves, reshape(keys, [kvHeads, count, 1, dim])), 'sum'), [0, 2, 1]);
  const factor = (scale * scale) / (2 * queries.shape[1]);
  return add(scaled, mul(reshape(squares, [heads, count]), fromArray(backend, [factor], [1])));
}

/** {@link expectedAttention} in the catalogue. */
export const expectedAttentionMethod = /* @__PURE__ */ defineKvMethod({
  id: 'expected-attention',
  title: 'Expected Attention: what queries to come will look at',
  paper: 'arXiv:2510.00636',
  phase: 'prefill',
  training: 'none',
  queryAgnostic: true,
  ragged: false,
  options: { budget: 2048, future: 512, sinks: 4, covariance: true, valueNorm: true, eps: 0 },
  compressor: expectedAttention,
});
