import { div, fromArray, matmul, OptionError, permute, reduce, reshape, sub, type Tensor } from '@filigree/core-tensor';
import { checkIntegers } from '@filigree/sparse-attention';
import { ascending, largest, type Allocation } from '../allocate.js';
import { uniform } from '../budgets.js';
import { compressor, type CompressContext, type ScoredCompressor } from '../compressor.js';
import { defineKvMethod } from '../kv-method.js';
import { eigenvalues } from '../linear-algebra.js';
import { positive, rowNorms } from '../norms.js';
import { attentionReceived } from '../probabilities.js';
import { readRows } from '../rows.js';

export interface UnCompOptions {
  /** Entries per head that are kept, the window among them, on average over the heads of a layer: a number, or a share of the prompt below 1. */
  readonly budget: number;
  /** Eigenvalues that count, the largest ones. */
  readonly rank: number;
  /** Queries at the end of the prompt that vote; their entries stay. */
  readonly window: number;
  /** Odd number of neighbouring entries whose votes are pooled. */
  readonly kernel: number;
  /** Budget of the half of the heads with the lower entropy, over that of the others. 1: all alike. */
  readonly lower: number;
}

/**
 * UNComp's budgets of heads: the matrix entropy of a head's queries, as attention uses them, says how much it distinguishes; the lower half of the heads of
 * a layer gets less. Votes as SnapKV's. Its stages, which drop hidden states, are not part of this.
 *
 * 2 · length · D² operations per query head, and eigenvalues of D × D on the host. Xiong et al., "UNComp: Can Matrix Entropy Uncover Sparsity?",
 * arXiv:2410.03090.
 *
 * @throws OptionError when an option is out of its range.
 */
export function unComp({ budget, rank, window, kernel, lower }: UnCompOptions): ScoredCompressor {
  checkIntegers('uncomp', { rank, window, kernel }, 1);
  if (kernel % 2 === 0) throw new OptionError(`uncomp: kernel is ${kernel}, it must be odd`);
  if (!(lower >= 0 && lower <= 1)) throw new OptionError(`uncomp: lower is ${lower}, it must lie within 0 and 1`);
  const allocation: Allocation = async (scores, entries, { context }) => {
    const counts = divided(await headEntropies(context, rank), { lower, entries, most: scores[0].length });
    return scores.map((row, head) => ascending(largest(row, counts[head])));
  };
  return compressor({
    id: 'uncomp',
    queries: 'all',
    queryAgnostic: false,
    score: (context) => attentionReceived(context, Math.min(window, context.q.shape[1])),
    pooling: { kind: 'avg', size: kernel },
    budget: uniform('uncomp', budget),
    protect: { recent: window },
    allocation,
  });
}

/** Entries per head: those of the lower half get `lower` times as many, none more than `most`; together heads · entries. */
function divided(
  entropies: readonly number[],
  { lower, entries, most }: { readonly lower: number; readonly entries: number; readonly most: number },
): number[] {
  const order = largest(entropies, entropies.length);
  // Equal heads are not told apart.
  const least = entropies[order[Math.ceil(order.length / 2) - 1]];
  const weights = order.map((head) => (entropies[head] >= least ? 1 : lower));
  const total = weights.reduce((a, b) => a + b, 0);
  const counts = new Array<number>(order.length).fill(0);
  for (const [place, head] of order.entries())
    counts[head] = Math.min(most, Math.floor((order.length * entries * weights[place]) / total + 1e-9));
  let left = order.length * entries - counts.reduce((a, b) => a + b, 0);
  // What rounding and full heads left goes to the heads of high entropy first.
  while (left > 0)
    for (const head of order) {
      if (left === 0 || counts[head] >= most) continue;
      counts[head]++;
      left--;
    }
  return counts;
}

/** Truncated matrix entropy of the queries of key-value heads, the mean over their group: within 0 and 1. */
export async function headEntropies(context: CompressContext, rank: number): Promise<number[]> {
  const { heads, kvHeads } = context;
  const dim = context.q.shape[3];
  const grams = await readRows(() => gram(context), dim * dim);
  const entropies = grams.map((row) => truncatedEntropy(row, dim, rank));
  const group = heads / kvHeads;
  return Array.from({ length: kvHeads }, (_, head) => {
    const members = entropies.slice(head * group, (head + 1) * group);
    return members.reduce((a, b) => a + b, 0) / group;
  });
}

/** Zᵀ·Z / n of queries, centred and of length 1: [Hq, D, D]. */
function gram({ backend, q }: CompressContext): Tensor {
  const [, count, heads, dim] = q.shape;
  const rows = permute(reshape(q, [count, heads, dim]), [1, 0, 2]);
  const centred = sub(rows, reduce(rows, 'mean', { axis: 1, keepDims: true }));
  const unit = div(centred, positive(reshape(rowNorms(centred), [heads, count, 1])));
  return div(matmul(unit, unit, { transposeA: true }), fromArray(backend, [count], [1]));
}

/** −Σ σ·log σ / log D over the `rank` largest eigenvalues. */
export function truncatedEntropy(matrix: ArrayLike<number>, dim: number, rank: number): number {
  if (dim === 1) return 0;
  const sum = eigenvalues(matrix, dim)
    .subarray(0, rank)
    // Rounding makes small ones negative.
    .reduce((total, value) => (value > 0 ? total - value * Math.log(value) : total), 0);
  return sum / Math.log(dim);
}

/** {@link unComp} in the catalogue. */
export const unCompMethod = /* @__PURE__ */ defineKvMethod({
  id: 'uncomp',
  title: 'UNComp: more entries for heads of high entropy',
  paper: 'arXiv:2410.03090',
  phase: 'prefill',
  training: 'none',
  queryAgnostic: false,
  ragged: true,
  options: { budget: 384, rank: 32, window: 8, kernel: 5, lower: 0.5 },
  compressor: unComp,
});
