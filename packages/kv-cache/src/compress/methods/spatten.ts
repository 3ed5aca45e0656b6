import { checkIntegers } from '@filigree/sparse-attention';
import { shared } from '../allocate.js';
import { pyramid } from '../budgets.js';
import { compressor, type CompressContext, type Compressor } from '../compressor.js';
import { defineKvMethod } from '../kv-method.js';
import { attentionReceived } from '../probabilities.js';
import { readRows } from '../rows.js';

export interface SpattenOptions {
  /** Entries that are kept, on average over the layers: a number, or a share of the prompt below 1. */
  readonly budget: number;
  readonly sinks: number;
  readonly recent: number;
  /** The average budget beside both ends over that of the last layer. 1: all layers alike. */
  readonly beta: number;
  /** Divides what an entry received by the number of queries that could see it; else old entries are at an advantage. */
  readonly normalizeByAge: boolean;
}

/**
 * SpAtten's cascade of tokens: attention that a token receives, from all heads and queries, adds up over the layers; each layer keeps the tokens with most of it and
 * both ends, and what it drops no later layer computes. Its pruning of heads and of values, and its progressive quantization, are not part of this.
 *
 * 4 · left² · D operations per query head, for the tokens that are left. Wang et al., "SpAtten: Efficient Sparse Attention Architecture with Cascade Token and Head
 * Pruning", arXiv:2012.09852; probabilities add up here, where its code for language models adds logits.
 *
 * @throws OptionError when an option is out of its range.
 */
export function spatten({ budget, sinks, recent, beta, normalizeByAge }: SpattenOptions): Compressor {
  checkIntegers('spatten', { sinks });
  // The last token of a prompt is what goes on.
  checkIntegers('spatten', { recent }, 1);
  const layered = pyramid('spatten', { budget, window: sinks + recent, beta });
  return {
    ...{ id: 'spatten', queries: 'all', queryAgnostic: false, cascade: true, budget: layered },
    async compress(context) {
      const importance = context.importance ?? new Float64Array(context.length);
      await addReceived(context, importance, normalizeByAge);
      const chosen = compressor({
        ...{ id: 'spatten', queries: 'all', queryAgnostic: false, budget: layered },
        score: { rows: () => Promise.resolve(Array.from({ length: context.kvHeads }, () => Float32Array.from(importance))) },
        protect: { sinks, recent },
        allocation: shared,
      });
      return chosen.compress(context);
    },
  };
}

async function addReceived(context: CompressContext, importance: Float64Array, byAge: boolean): Promise<void> {
  const { length, q } = context;
  for (const row of await readRows(() => attentionReceived(context), length))
    for (let entry = 0; entry < length; entry++)
      importance[entry] += byAge ? row[entry] / Math.min(q.shape[1], length - entry) : row[entry];
}

/** {@link spatten} in the catalogue. */
export const spattenMethod = /* @__PURE__ */ defineKvMethod({
  id: 'spatten',
  title: 'SpAtten: tokens that a layer drops are gone for later ones',
  paper: 'arXiv:2012.09852',
  phase: 'prefill',
  training: 'none',
  queryAgnostic: false,
  ragged: false,
  options: { budget: 2048, sinks: 4, recent: 128, beta: 4, normalizeByAge: false },
  compressor: spatten,
});
