import { OptionError } from '@filigree/core-tensor';
import { checkChoice, checkIntegers, type MethodOptions } from '@filigree/sparse-attention';
import { compressor, type ScoredCompressor, type CompressorParts } from '../compressor.js';
import { uniform } from '../budgets.js';
import { defineKvMethod } from '../kv-method.js';
import { attentionReceived } from '../probabilities.js';

export interface SnapKvOptions {
  /** Entries per head that are kept, the window among them: a number, or a share of the prompt below 1. */
  readonly budget: number;
  /** Queries at the end of the prompt that vote; their entries stay. */
  readonly window: number;
  /** Odd number of neighbouring entries whose votes are pooled. */
  readonly kernel: number;
  readonly pool: string;
  /** How the votes of query heads that share a key-value head become one: mean or max. */
  readonly group: string;
}

/**
 * SnapKV: the last queries of the prompt vote for entries by their attention, votes are pooled along the sequence, and every head keeps the window and the entries
 * with most votes. What is kept answers the question that the prompt ends in, not others.
 *
 * 4 · window · length · D operations per query head. Li et al., "SnapKV: LLM Knows What You are Looking for Before Generation", arXiv:2404.14469.
 *
 * @throws OptionError when an option is out of its range.
 */
export function snapKv(options: SnapKvOptions): ScoredCompressor {
  return compressor({ id: 'snap-kv', budget: uniform('snap-kv', options.budget), ...snapKvVotes('snap-kv', options) });
}

/** The score of SnapKV, for methods that only divide the budget differently. */
export function snapKvVotes(
  method: string,
  { window, kernel, pool, group }: Omit<SnapKvOptions, 'budget'>,
): Omit<CompressorParts, 'id' | 'budget'> {
  checkIntegers(method, { window, kernel }, 1);
  if (kernel % 2 === 0) throw new OptionError(`${method}: kernel is ${kernel}, it must be odd`);
  return {
    queries: window,
    queryAgnostic: false,
    decodes: true,
    score: attentionReceived,
    pooling: { kind: checkChoice(method, 'pool', pool, ['avg', 'max'] as const), size: kernel },
    group: checkChoice(method, 'group', group, ['mean', 'max'] as const),
    protect: { recent: window },
  };
}

/** Defaults of the votes. */
export const snapKvDefaults = { budget: 2048, window: 32, kernel: 5, pool: 'avg', group: 'mean' } as const;

/** Defaults of a method with these votes and options of its own: as a call, which bundlers can leave out, unlike a spread. */
export function votesWith<const O extends MethodOptions>(own: O): Omit<typeof snapKvDefaults, keyof O> & O {
  return { ...snapKvDefaults, ...own };
}

/** {@link snapKv} in the catalogue. */
export const snapKvMethod = /* @__PURE__ */ defineKvMethod({
  id: 'snap-kv',
  title: 'SnapKV: the end of the prompt votes',
  paper: 'arXiv:2404.14469',
  phase: 'prefill',
  training: 'none',
  queryAgnostic: false,
  ragged: false,
  options: snapKvDefaults,
  compressor: snapKv,
});
