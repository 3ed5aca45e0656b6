import {
  argMax,
  div,
  fromArray,
  gatherRows,
  keep,
  matmul,
  mul,
  OptionError,
  reduce,
  reshape,
  scatterRows,
  scope,
  type Tensor,
} from '@filigree/core-tensor';
import { appendOp } from '../ops/append.js';
import { largest } from './allocate.js';
import { biasesOf, type CompressContext, type Compressor, type ScoredCompressor } from './compressor.js';
import { asFloat, positive, rowNorms } from './norms.js';

export interface MergingOptions {
  /** Least cosine of an evicted key and the kept one that is most like it; above 1 nothing is merged. */
  readonly threshold: number;
  /** Share of the evicted entries that are merged, the most similar ones. */
  readonly fraction: number;
  /**
   * Has a kept entry count in a softmax as all that was merged into it, each as far as its key is like the kept one: adds log(1 + Σ cosine) to its
   * scores. Exact for duplicates.
   */
  readonly bias: boolean;
}

/**
 * Adds values of evicted entries to those of the kept entries whose keys are most like theirs, as averages weighted by cosine and length; keys stay. First
 * entries that the inner compressor protects take nothing in. What duplicates weighed together in a softmax is
 * restored by `bias` alone.
 *
 * 2 · evicted · kept · D operations per key-value head. Wan et al., "D2O: Dynamic Discriminative Operations for Efficient Long-Context Inference of Large
 * Language Models", arXiv:2406.13035; Bolya et al., "Token Merging: Your ViT But Faster", arXiv:2210.09461.
 *
 * @throws OptionError when an option is out of its range.
 */
export function merging(
  inner: ScoredCompressor,
  { threshold = 0, fraction = 1, bias = false }: Partial<MergingOptions> = {},
): Compressor {
  if (Number.isNaN(threshold)) throw new OptionError('merging: threshold is NaN, it must be a number');
  if (!(fraction >= 0 && fraction <= 1)) throw new OptionError(`merging: fraction is ${fraction}, it must lie within 0 and 1`);
  const { id, queries, queryAgnostic, budget, parts } = inner;
  return {
    id,
    queries,
    queryAgnostic,
    budget,
    async compress(context) {
      const kept = await inner.compress(context);
      for (const [head, ids] of kept.entries()) {
        if (ids.length === 0 || ids.length === context.length) continue;
        await mergeHead(context, { head, kept: ids, sinks: parts.protect?.sinks ?? 0, threshold, fraction, bias });
      }
      return kept;
    },
  };
}

interface HeadMerge extends MergingOptions {
  readonly head: number;
  readonly kept: Uint32Array;
  readonly sinks: number;
}

/** Evicted entries that are compared at a time. */
const rows = 1024;

async function mergeHead(context: CompressContext, merge: HeadMerge): Promise<void> {
  const { head, kept, sinks, threshold, fraction, bias } = merge;
  const targets = Array.from(kept).filter((id) => id >= sinks);
  const stays = new Set(kept);
  const evicted = Array.from({ length: context.length }, (_, id) => id).filter((id) => !stays.has(id));
  if (targets.length === 0) return;
  const { cosines, nearest } = await similarities(context, head, evicted, targets);
  const norms = await valueNorms(context, head);
  const chosen = largest(cosines, Math.floor(fraction * evicted.length)).filter((index) => cosines[index] >= threshold);
  const weights = chosen.map((index) => {
    const [own, other] = [norms[evicted[index]], norms[targets[nearest[index]]]];
    return own === 0 ? 0 : (Math.max(0, cosines[index]) * own) / (own + other);
  });
  if (!weights.some((weight) => weight > 0)) return;
  const totals = new Float32Array(targets.length).fill(1);
  for (const [place, index] of chosen.entries()) totals[nearest[index]] += weights[place];
  if (bias) {
    const masses = new Float32Array(targets.length).fill(1);
    for (const index of chosen) masses[nearest[index]] += Math.max(0, cosines[index]);
    const row = biasesOf('merging', context)[head];
    for (const [index, target] of targets.entries()) row[target] += Math.log(masses[index]);
  }
  scope(() => {
    const { backend, k, v, length, kvHeads } = context;
    const flat = (x: Tensor): Tensor => reshape(x, [kvHeads * length, x.shape[2]]);
    const list = (ids: readonly number[]): Tensor => fromArray(backend, ids, [ids.length], 'i32');
    const slots = list(targets.map((id) => head * length + id));
    const own = asFloat(gatherRows(flat(v), slots));
    const others = asFloat(gatherRows(flat(v), list(chosen.map((index) => head * length + evicted[index]))));
    const weighted = mul(others, fromArray(backend, weights, [weights.length, 1]));
    const sums = scatterRows(own, list(chosen.map((index) => nearest[index])), weighted, 'add');
    const means = div(sums, fromArray(backend, totals, [targets.length, 1]));
    // Keys are written as they were.
    const pages = (x: Tensor): Tensor => reshape(x, [kvHeads, 1, length, x.shape[2]]);
    const single = (x: Tensor): Tensor => reshape(x, [targets.length, 1, x.shape[1]]);
    const keys = asFloat(gatherRows(flat(k), slots));
    appendOp({ keyPages: pages(k), valuePages: pages(v), k: single(keys), v: single(means), slots }, {});
  });
}

/** For every evicted entry the target whose key is most like its own, and their cosine. */
async function similarities(
  { backend, k, kvHeads, length }: CompressContext,
  head: number,
  evicted: readonly number[],
  targets: readonly number[],
): Promise<{ cosines: Float32Array; nearest: Int32Array }> {
  const unit = (ids: readonly number[]): Tensor => {
    const slots = fromArray(
      backend,
      ids.map((id) => head * length + id),
      [ids.length],
      'i32',
    );
    const keys = asFloat(gatherRows(reshape(k, [kvHeads * length, k.shape[2]]), slots));
    return div(keys, positive(reshape(rowNorms(keys), [ids.length, 1])));
  };
  const [cosines, nearest] = [new Float32Array(evicted.length), new Int32Array(evicted.length)];
  const compared = scope(() => keep(unit(targets)));
  try {
    for (let start = 0; start < evicted.length; start += rows) {
      const part = evicted.slice(start, start + rows);
      const found = scope(() => {
        const products = matmul(unit(part), compared, { transposeB: true });
        return { most: reduce(products, 'max'), at: argMax(products) };
      });
      try {
        cosines.set(await found.most.readNumbers(), start);
        nearest.set(await found.at.readNumbers(), start);
      } finally {
        found.most.dispose();
        found.at.dispose();
      }
    }
  } finally {
    compared.dispose();
  }
  return { cosines, nearest };
}

async function valueNorms({ v, length }: CompressContext, head: number): Promise<Float32Array> {
  const norms = scope(() => rowNorms(asFloat(v.view([length, v.shape[2]], v.offset + head * length * v.shape[2]))));
  try {
    return Float32Array.from(await norms.readNumbers());
  } finally {
    norms.dispose();
  }
}
