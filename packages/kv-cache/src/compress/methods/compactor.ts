import {
  concat,
  ExecutionError,
  fromArray,
  matmul,
  mul,
  permute,
  Random,
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
import { defineKvMethod } from '../kv-method.js';
import { cholesky, inverseOf } from '../linear-algebra.js';
import { asFloat, rowNorms, timesEntries } from '../norms.js';
import { groupRows, poolRows, readRows } from '../rows.js';

export interface CompactorOptions {
  /** Entries per head that are kept: a number, or a share of the prompt below 1. */
  readonly budget: number;
  readonly sinks: number;
  /** Newest entries, which stay. */
  readonly recent: number;
  /** Entries that attend to each other. */
  readonly chunk: number;
  /** Channels that keys are mixed down to by chance; 0: all as they are. */
  readonly sketch: number;
  /** Weight of the leverage against attention; negative: the share of the prompt that is dropped. */
  readonly blend: number;
  readonly seed: number;
}

/**
 * Compactor: keys that others cannot be combined to (leverage scores of keys before rotation), and entries that their neighbours on both sides attend to.
 * Both are standardised per head and added.
 *
 * 4 · length · chunk · D operations per query head. Chari and Van Durme, "Compactor: Calibrated Query-Agnostic KV Cache Compression with Approximate Leverage
 * Scores", arXiv:2507.08143.
 *
 * @throws OptionError when an option is out of its range.
 */
export function compactor(options: CompactorOptions): ScoredCompressor {
  const { budget, sinks, recent, chunk, sketch, seed } = options;
  checkIntegers('compactor', { chunk }, 1);
  checkIntegers('compactor', { sketch, seed });
  const entries = uniform('compactor', budget);
  return compressor({
    id: 'compactor',
    queries: 'all',
    queryAgnostic: true,
    score: {
      async rows(context) {
        const { length, layer, layers, kvHeads } = context;
        const blend = options.blend < 0 ? 1 - Math.min(1, entries(length, layer, layers) / length) : options.blend;
        const leverages = await leverageScores(context, { sketch, seed });
        const attended = groupRows(await readRows(() => attentionOfNeighbours(context, chunk), length), kvHeads, 'mean');
        return attended.map((row, head) => {
          const near = standardised(poolRows(row, { kind: 'avg', size: 3 }));
          const apart = standardised(leverages[head]);
          return near.map((score, entry) => score + blend * apart[entry]);
        });
      },
    },
    budget: entries,
    protect: { sinks, recent },
  });
}

/** ℓ = diag(X·(Xᵀ·X)⁻¹·Xᵀ) of keys before rotation, centred and mixed down, per key-value head. */
export async function leverageScores(
  context: CompressContext,
  { sketch, seed }: Pick<CompactorOptions, 'sketch' | 'seed'>,
): Promise<Float32Array[]> {
  const { backend, kvHeads, length, k, layer } = context;
  const width = sketch === 0 ? k.shape[2] : sketch;
  const grams = await readRows(() => {
    const x = sketched(context, sketch, seed);
    return matmul(x, x, { transposeA: true });
  }, width * width);
  const inverses = new Float32Array(kvHeads * width * width);
  for (const [head, gram] of grams.entries()) {
    const lower = jittered(gram, width);
    if (!lower)
      throw new ExecutionError(`compactor: the score of entry 0, head ${head} of layer ${layer}, is NaN: keys are no numbers`);
    inverses.set(inverseOf(lower, width), head * width * width);
  }
  return readRows(() => {
    const x = sketched(context, sketch, seed);
    return reduce(mul(matmul(x, fromArray(backend, inverses, [kvHeads, width, width])), x), 'sum');
  }, length);
}

/** The factor of a matrix with as little added to its diagonal as it takes. */
function jittered(gram: Float32Array, n: number): Float64Array | undefined {
  for (let attempt = 0, jitter = 1e-2; attempt < 5; attempt++, jitter *= 10) {
    const lower = cholesky(
      gram.map((value, index) => (index % (n + 1) === 0 ? value + jitter : value)),
      n,
    );
    if (lower) return lower;
  }
  return undefined;
}

/** Keys turned back to position 0, centred, times a random matrix: [Hk, length, width]. */
function sketched({ backend, k, length, rotate, layer }: CompressContext, sketch: number, seed: number): Tensor {
  const back = fromArray(
    backend,
    Int32Array.from({ length }, (_, entry) => -entry),
    [length],
    'i32',
  );
  const keys = permute(rotate(permute(asFloat(k), [1, 0, 2]), back), [1, 0, 2]);
  const centred = sub(keys, reduce(keys, 'mean', { axis: 1, keepDims: true }));
  if (sketch === 0) return centred;
  const random = new Random(seed, layer);
  const dim = k.shape[2];
  const mixing = Float32Array.from({ length: dim * sketch }, () => random.nextNormal() / Math.sqrt(sketch));
  return matmul(centred, fromArray(backend, mixing, [dim, sketch]));
}

/** Attention that entries receive within their chunk, from queries on both sides, times the length of their value: [Hq, length]. */
function attentionOfNeighbours(context: CompressContext, chunk: number): Tensor {
  const { backend, q, k, v, heads, kvHeads, length, scale } = context;
  const [group, dim] = [heads / kvHeads, k.shape[2]];
  const keys = asFloat(k);
  const columns: Tensor[] = [];
  for (let start = 0; start < length; start += chunk) {
    const count = Math.min(chunk, length - start);
    const own = reshape(slice(q, [0, start, 0, 0], [1, count, heads, dim]), [count, kvHeads, group, dim]);
    const apart = reshape(permute(own, [1, 2, 0, 3]), [kvHeads, group * count, dim]);
    const near = slice(keys, [0, start, 0], [kvHeads, count, dim]);
    const logits = mul(matmul(apart, near, { transposeB: true }), fromArray(backend, [scale], [1]));
    columns.push(reduce(reshape(softmax(logits), [heads, count, count]), 'sum', { axis: 1 }));
  }
  const sums = columns.length === 1 ? columns[0] : concat(columns, 1);
  return timesEntries(context, sums, rowNorms(asFloat(v)));
}

/** Less the mean, over the deviation; nothing where all are equal. */
function standardised(row: Float32Array): Float32Array {
  const mean = row.reduce((sum, value) => sum + value, 0) / row.length;
  const deviation = Math.sqrt(row.reduce((sum, value) => sum + (value - mean) ** 2, 0) / row.length);
  return row.map((value) => (value - mean) / (deviation === 0 ? 1 : deviation));
}

/** {@link compactor} in the catalogue. */
export const compactorMethod = /* @__PURE__ */ defineKvMethod({
  id: 'compactor',
  title: 'Compactor: keys that stand apart, and attention of neighbours',
  paper: 'arXiv:2507.08143',
  phase: 'prefill',
  training: 'none',
  queryAgnostic: true,
  ragged: false,
  options: { budget: 2048, sinks: 8, recent: 4, chunk: 256, sketch: 48, blend: -1, seed: 1 },
  compressor: compactor,
});
