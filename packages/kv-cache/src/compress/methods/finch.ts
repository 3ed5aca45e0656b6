import { fromArray, mul, reduce, reshape, type Tensor } from '@filigree/core-tensor';
import { checkIntegers } from '@filigree/sparse-attention';
import { perHead, sharePerChunk } from '../allocate.js';
import { uniform } from '../budgets.js';
import { compressor, type CompressContext, type Compressor, type ScoredCompressor } from '../compressor.js';
import { defineKvMethod } from '../kv-method.js';
import { asFloat } from '../norms.js';
import { probabilities } from '../probabilities.js';
import { rerotate } from '../rerotate.js';

export interface FinchOptions {
  /** Entries per head that are kept, the question among them: a number, or a share of the prompt below 1. */
  readonly budget: number;
  /** Tokens of the question, at the end of the prompt; their entries stay. */
  readonly window: number;
  /** Entries of a chunk, of each of which the same share is kept; 0: the prompt is one. */
  readonly chunk: number;
}

/**
 * FINCH: the question at the end of the prompt votes, each of its queries as much as it sees entries, so that later ones, whose attention is spread over more, count no less; what is
 * kept moves together, up to the next token. It answers that question, not others.
 *
 * 4 · window · length · D operations per query head, and 4 · window · length bytes of each at a time.
 * Corallo and Papotti, "FINCH: Prompt-guided Key-Value Cache Compression", TACL 2024, arXiv:2408.00167.
 *
 * @throws OptionError when an option is out of its range.
 */
export function finch(options: FinchOptions): Compressor {
  return rerotate(finchVotes(options));
}

/** FINCH whose keys stay where they are, for combinations with others. */
export function finchVotes({ budget, window, chunk }: FinchOptions): ScoredCompressor {
  checkIntegers('finch', { window }, 1);
  checkIntegers('finch', { chunk });
  return compressor({
    id: 'finch',
    queries: window,
    queryAgnostic: false,
    decodes: true,
    score: weightedVotes,
    budget: uniform('finch', budget),
    protect: { recent: window },
    allocation: chunk === 0 ? perHead : sharePerChunk(chunk),
  });
}

/** f32 [Hq, length]: attention of the queries, times the entries that each of them sees. */
function weightedVotes({ backend, q, k, heads, length, scale, softcap }: CompressContext): Tensor {
  const count = q.shape[1];
  const before = length - count;
  const hidden = Float32Array.from({ length: count * length }, (_, cell) =>
    cell % length > before + Math.floor(cell / length) ? -Infinity : 0,
  );
  const mask = fromArray(backend, hidden, [count, length]);
  const queries = reshape(q, [count, heads, q.shape[3]]);
  const votes = probabilities(queries, asFloat(k), { mask, scale, softcap });
  const seen = Float32Array.from({ length: count }, (_, query) => before + query + 1);
  return reduce(mul(votes, fromArray(backend, seen, [1, count, 1])), 'sum', { axis: 1 });
}

/** {@link finch} in the catalogue. */
export const finchMethod = /* @__PURE__ */ defineKvMethod({
  id: 'finch',
  title: 'FINCH: the question votes, what is kept moves together',
  paper: 'arXiv:2408.00167',
  phase: 'prefill',
  training: 'none',
  queryAgnostic: false,
  ragged: false,
  options: { budget: 2048, window: 32, chunk: 0 },
  compressor: finch,
});
