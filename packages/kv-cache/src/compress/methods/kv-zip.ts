import { ExecutionError } from '@filigree/core-tensor';
import { checkIntegers } from '@filigree/sparse-attention';
import { adaptive } from '../allocate.js';
import { uniform } from '../budgets.js';
import type { Compressor, Kept } from '../compressor.js';
import { defineKvMethod } from '../kv-method.js';
import type { LayerScores, RepeatPass } from '../repeat-pass.js';
import { expectNumbers } from '../rows.js';

export interface KvZipOptions {
  /** Entries that are kept per head, on average over all heads of all layers: a number, or a share of the prompt below 1. */
  readonly budget: number;
  /** Tokens that are repeated at a time. */
  readonly chunk: number;
  /** Tokens before a later chunk that say where it begins. */
  readonly overlap: number;
  readonly sinks: number;
  /** Every layer keeps the same number; else layers share one budget as heads do. */
  readonly layerwise: boolean;
  /** KVzip+: attention times the length of what the value adds to the residual stream, over that of the hidden state that the query was made of. */
  readonly plus: boolean;
}

/**
 * KVzip: what the model attends to when it repeats the prompt stays; it serves any question. Entries of all heads of all layers compete for one budget.
 *
 * The prompt is read as a whole and once more: twice to three times the work of reading it, and the memory of all its entries until then.
 * Kim et al., "KVzip: Query-Agnostic KV Cache Compression with Context Reconstruction", arXiv:2505.23416; `plus`: Jegou and Jeblick, "KVzap: Fast, Adaptive, and Faithful KV Cache
 * Pruning", arXiv:2601.07891.
 *
 * @throws OptionError when an option is out of its range.
 */
export function kvZip({
  budget: entries,
  chunk,
  overlap,
  sinks,
  layerwise,
  plus,
}: KvZipOptions): Compressor & { readonly repeat: RepeatPass } {
  checkIntegers('kvzip', { chunk }, 1);
  checkIntegers('kvzip', { overlap, sinks });
  const budget = uniform('kvzip', entries);
  const choose = (scores: readonly LayerScores[], length: number): readonly Kept[] => {
    for (const { layer, rows } of scores) expectNumbers('kvzip', layer, rows);
    const most = Math.min(length, budget(length, 0, 1));
    const first = Math.min(sinks, most);
    const all = scores.map(({ rows }) => rows.map((row) => row.subarray(first)));
    const share = adaptive(0);
    const kept = layerwise ? all.flatMap((rows) => share(rows, most - first)) : share(all.flat(), most - first);
    const whole = kept.map((ids) => {
      const own = Uint32Array.from({ length: first + ids.length }, (_, index) => index);
      for (const [index, id] of ids.entries()) own[first + index] = first + id;
      return own;
    });
    let taken = 0;
    return scores.map(({ rows }) => whole.slice(taken, (taken += rows.length)));
  };
  return {
    id: 'kvzip',
    queries: 0,
    queryAgnostic: true,
    budget,
    repeat: {
      chunk,
      overlap,
      sinks,
      weighted: plus,
      instructions: {
        first: '\n\nRepeat the previous context exactly.',
        later: '\n\nRepeat the part of the previous context exactly, starting with ',
      },
      choose,
    },
    compress: () =>
      Promise.reject(new ExecutionError('kvzip: it decides over all layers once the prompt was repeated, not layer by layer')),
  };
}

/** {@link kvZip} in the catalogue. */
export const kvZipMethod = /* @__PURE__ */ defineKvMethod({
  id: 'kvzip',
  title: 'KVzip: what repeating the prompt looks at',
  paper: 'arXiv:2505.23416',
  phase: 'prefill',
  training: 'none',
  queryAgnostic: true,
  ragged: true,
  options: { budget: 2048, chunk: 2048, overlap: 8, sinks: 4, layerwise: false, plus: false },
  compressor: kvZip,
});
