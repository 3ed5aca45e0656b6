import {
  div,
  ExecutionError,
  fromArray,
  keep,
  matmul,
  mul,
  permute,
  reduce,
  reshape,
  scope,
  sub,
  unary,
  type Tensor,
} from '@filigree/core-tensor';
import { checkIntegers } from '@filigree/sparse-attention';
import { uniform } from '../budgets.js';
import { compressor, type CompressContext, type ScoredCompressor } from '../compressor.js';
import { meanRotation, unrotated } from '../future-queries.js';
import { defineKvMethod } from '../kv-method.js';
import { cholesky, inverseOf } from '../linear-algebra.js';
import { asFloat, positive, rowNorms } from '../norms.js';
import { readRows } from '../rows.js';

export interface CapKvOptions {
  /** Entries per head that are kept: a number, or a share of the prompt below 1. */
  readonly budget: number;
  /** How much it counts that a key points where queries are expected. 0: not at all. */
  readonly tau: number;
  /** Positions behind the prompt that queries are expected at. */
  readonly future: number;
  /** First entries, which stay, and whose queries are left out. */
  readonly sinks: number;
}

/**
 * CapKV: entries without which the values, weighted by how well their keys fit the expected query, would span less: with A = I + Σ w·v·vᵀ an entry scores
 * w·vᵀ·A⁻¹·v, and log det A without it is log(1 − score) less.
 *
 * 4 · length · D² operations per query head, and an inverse of D × D on the host. "CapKV", arXiv:2604.25975; cosines in place of products as in kvpress.
 *
 * @throws OptionError when an option is out of its range.
 */
export function capKv({ budget, tau, future, sinks }: CapKvOptions): ScoredCompressor {
  checkIntegers('cap-kv', { future }, 1);
  return compressor({
    id: 'cap-kv',
    queries: 'all',
    queryAgnostic: true,
    score: { rows: (context) => capacityScores(context, { tau, future, sinks }) },
    budget: uniform('cap-kv', budget),
    protect: { sinks },
  });
}

async function capacityScores(
  context: CompressContext,
  { tau, future, sinks }: Omit<CapKvOptions, 'budget'>,
): Promise<readonly Float32Array[]> {
  const { backend, v, heads, kvHeads, length } = context;
  const [group, dim] = [heads / kvHeads, v.shape[2]];
  const values = (): Tensor => reshape(asFloat(v), [kvHeads, 1, length, dim]);
  const weights = scope(() => keep(fit(context, { tau, future, sinks: Math.min(sinks, length - 1) })));
  try {
    const weighted = (): Tensor => mul(reshape(weights, [kvHeads, group, length, 1]), values());
    const products = await readRows(() => matmul(weighted(), values(), { transposeA: true }), dim * dim);
    const inverses = new Float32Array(heads * dim * dim);
    for (const [head, product] of products.entries()) {
      const lower = cholesky(
        product.map((value, index) => value + (index % (dim + 1) === 0 ? 1 : 0)),
        dim,
      );
      if (!lower)
        throw new ExecutionError(
          `cap-kv: the score of entry 0, head ${head} of layer ${context.layer}, is NaN: keys or values are no numbers`,
        );
      inverses.set(inverseOf(lower, dim), head * dim * dim);
    }
    return await readRows(() => {
      const solved = matmul(values(), fromArray(backend, inverses, [kvHeads, group, dim, dim]));
      const forms = reduce(mul(solved, values()), 'sum');
      return mul(reshape(forms, [heads, length]), weights);
    }, length);
  } finally {
    weights.dispose();
  }
}

/** exp(tau · cosine of a key and the expected query), the largest of a head being 1: [Hq, length]. */
function fit(context: CompressContext, { tau, future, sinks }: Omit<CapKvOptions, 'budget'>): Tensor {
  const { backend, k, heads, kvHeads, length } = context;
  const [group, dim] = [heads / kvHeads, k.shape[2]];
  const queries = permute(unrotated(context, sinks), [1, 0, 2]);
  const expected = matmul(reduce(queries, 'mean', { axis: 1, keepDims: true }), meanRotation(context, future));
  const keys = asFloat(k);
  const unitKeys = div(keys, positive(reshape(rowNorms(keys), [kvHeads, length, 1])));
  const unit = div(expected, positive(reshape(rowNorms(expected), [heads, 1, 1])));
  const cosines = reshape(matmul(reshape(unit, [kvHeads, group, dim]), unitKeys, { transposeB: true }), [heads, length]);
  const scaled = mul(cosines, fromArray(backend, [tau], [1]));
  return unary(sub(scaled, reduce(scaled, 'max', { keepDims: true })), 'exp');
}

/** {@link capKv} in the catalogue. */
export const capKvMethod = /* @__PURE__ */ defineKvMethod({
  id: 'cap-kv',
  title: 'CapKV: entries that values need to span what they do',
  paper: 'arXiv:2604.25975',
  phase: 'prefill',
  training: 'none',
  queryAgnostic: true,
  ragged: false,
  options: { budget: 2048, tau: 5, future: 512, sinks: 4 },
  compressor: capKv,
});
