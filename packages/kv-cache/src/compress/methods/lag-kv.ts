import {
  add,
  argSort,
  binary,
  cast,
  concat,
  div,
  fromArray,
  mul,
  reduce,
  reshape,
  slice,
  softmax,
  sub,
  unary,
  type Tensor,
} from '@filigree/core-tensor';
import { checkIntegers } from '@filigree/sparse-attention';
import { uniform } from '../budgets.js';
import { compressor, type CompressContext, type ScoredCompressor } from '../compressor.js';
import { defineKvMethod } from '../kv-method.js';
import { asFloat, positive } from '../norms.js';

export interface LagKvOptions {
  /** Entries per head that are kept: a number, or a share of the prompt below 1. */
  readonly budget: number;
  readonly sinks: number;
  /** Entries of a block. */
  readonly lag: number;
}

/**
 * LagKV: entries that vary most across channels, measured by the range that each channel has in the next block; every block keeps the same share. The last
 * whole block and what follows it come first, newest ones before others; a prompt of less than two blocks keeps its newest entries.
 *
 * Reads every key and value a few times. Liang et al., "LagKV: Lag-Relative Information of the KV Cache Tells Which Tokens Are Important",
 * arXiv:2504.04704.
 *
 * @throws OptionError when an option is out of its range.
 */
export function lagKv({ budget, sinks, lag }: LagKvOptions): ScoredCompressor {
  checkIntegers('lag-kv', { lag }, 1);
  return compressor({
    id: 'lag-kv',
    queries: 0,
    queryAgnostic: true,
    score: (context) => lagScores(context, sinks, lag),
    budget: uniform('lag-kv', budget),
    protect: { sinks },
  });
}

function lagScores({ backend, k, v, kvHeads, length }: CompressContext, sinks: number, lag: number): Tensor {
  const blocks = Math.max(0, Math.floor((length - sinks) / lag) - 1);
  const start = blocks > 0 ? sinks + blocks * lag : 0;
  // Above every rank, which is below 1.
  const tail = fromArray(
    backend,
    Float32Array.from({ length: kvHeads * (length - start) }, (_, index) => 1 + (index % (length - start)) / length),
    [kvHeads, length - start],
  );
  if (blocks === 0) return tail;
  const both = add(variation(asFloat(k), { sinks, lag, blocks }), variation(asFloat(v), { sinks, lag, blocks }));
  const number = (value: number): Tensor => fromArray(backend, [value], [1]);
  const flat = reshape(both, [kvHeads * blocks, lag]);
  const ranks = cast(argSort(cast(argSort(flat), 'f32')), 'f32');
  // What is NaN has a rank, but stays NaN.
  const shares = add(div(ranks, number(lag)), mul(flat, number(0)));
  const first = fromArray(backend, new Float32Array(kvHeads * sinks).fill(2), [kvHeads, sinks]);
  return concat([...(sinks > 0 ? [first] : []), reshape(shares, [kvHeads, blocks * lag]), tail], 1);
}

/** Softmax within a block of the deviation over channels, each relative to its range in the next block: [Hk, blocks, lag]. */
function variation(
  x: Tensor,
  { sinks, lag, blocks }: { readonly sinks: number; readonly lag: number; readonly blocks: number },
): Tensor {
  const [heads, , dim] = x.shape;
  const part = (start: number): Tensor =>
    reshape(slice(x, [0, start, 0], [heads, blocks * lag, dim]), [heads, blocks, lag, dim]);
  const [own, next] = [part(sinks), part(sinks + lag)];
  const least = reduce(next, 'min', { axis: 2, keepDims: true });
  const range = sub(reduce(next, 'max', { axis: 2, keepDims: true }), least);
  // A channel that does not vary says nothing.
  const varies = binary(range, fromArray(x.backend, [0], [1]), 'gt');
  const relative = mul(div(sub(own, least), positive(range)), varies);
  const apart = unary(sub(relative, reduce(relative, 'mean', { keepDims: true })), 'square');
  const variance = div(reduce(apart, 'sum'), fromArray(x.backend, [Math.max(1, dim - 1)], [1]));
  return softmax(unary(variance, 'sqrt'));
}

/** {@link lagKv} in the catalogue. */
export const lagKvMethod = /* @__PURE__ */ defineKvMethod({
  id: 'lag-kv',
  title: 'LagKV: entries unlike the next block',
  paper: 'arXiv:2504.04704',
  phase: 'prefill',
  training: 'none',
  queryAgnostic: true,
  ragged: false,
  options: { budget: 2048, sinks: 4, lag: 128 },
  compressor: lagKv,
});
