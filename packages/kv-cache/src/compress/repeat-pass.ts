import type { Kept } from './compressor.js';

/** What entries of a layer scored, per key-value head. */
export interface LayerScores {
  readonly layer: number;
  readonly rows: readonly Float32Array[];
}

/**
 * A second pass over a prompt that was read as a whole: in chunks, the model is asked to repeat it and is made to. An entry scores the most that any query of
 * its chunk's pass attends to it, with the first entries, the chunk and the pass itself to choose from.
 */
export interface RepeatPass {
  /** Tokens that are repeated at a time. */
  readonly chunk: number;
  /** Tokens before a later chunk that say where it begins. */
  readonly overlap: number;
  /** First entries, which every chunk sees. */
  readonly sinks: number;
  /**
   * Whether attention counts by what it does: times |W_o · v| of the entry, over the length of the hidden state that the query was made of. Scores are no
   * probabilities then.
   */
  readonly weighted?: boolean | undefined;
  /** What stands before the first chunk, and before every later one. */
  readonly instructions: { readonly first: string; readonly later: string };
  /**
   * Entries that stay of a prompt, for each of the layers.
   * @throws ExecutionError when a score is NaN.
   */
  choose(scores: readonly LayerScores[], length: number): readonly Kept[];
}
