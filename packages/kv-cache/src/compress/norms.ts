import { cast, fromArray, mul, reduce, reshape, unary, binary, type Tensor } from '@filigree/core-tensor';
import type { CompressContext } from './compressor.js';

/** The same numbers as f32, in the scope of the caller. */
export function asFloat(x: Tensor): Tensor {
  return x.dtype === 'f32' ? x : cast(x, 'f32');
}

/** Lengths of rows: f32 [..., D] → [...]. */
export function rowNorms(x: Tensor): Tensor {
  return unary(reduce(unary(x, 'square'), 'sum'), 'sqrt');
}

/** x, or the least number that can be divided by. */
export function positive(x: Tensor): Tensor {
  return binary(x, fromArray(x.backend, [1e-30], [1]), 'max');
}

/** Scores [Hq, n] of query heads times a factor per entry of their key-value heads, [Hk, n]. */
export function timesEntries({ heads, kvHeads }: CompressContext, scores: Tensor, factors: Tensor): Tensor {
  const length = scores.shape[1];
  const grouped = mul(reshape(scores, [kvHeads, heads / kvHeads, length]), reshape(factors, [kvHeads, 1, length]));
  return reshape(grouped, [heads, length]);
}
