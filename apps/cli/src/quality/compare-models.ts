import type { Model, Session } from '@filigree/transformer';
import { divergence, logSoftmax } from './divergence.js';

/** How one model's next-token distributions on a text differ from another's. Divergences in nats. */
export interface Quality {
  readonly windows: number;
  /** Tokens whose distributions were compared. */
  readonly tokens: number;
  /** exp of the mean negative log likelihood of the text's own tokens. */
  readonly perplexityBefore: number;
  readonly perplexityAfter: number;
  /** KL(before‖after) per token. */
  readonly klMean: number;
  readonly kl99: number;
  readonly klMax: number;
  /** Share of tokens where both models find the same token the likeliest. */
  readonly sameTop: number;
}

export interface CompareOptions {
  /** Most windows that are compared. */
  readonly windows: number;
  readonly signal: AbortSignal;
  readonly onProgress: (doneTokens: number, totalTokens: number) => void;
}

/** Tokens of a window. Its first half is context; what is said of the tokens of the second half counts, as in llama.cpp's perplexity. */
export const windowTokens = 512;
const scoredFrom = windowTokens / 2;
/** Tokens of a step: bounds the logits that are in memory, of large vocabularies too. */
const stepTokens = 64;

/** Compares models with `before` on windows of a text that all of them tokenize alike. */
export async function compareModels(
  before: Model,
  after: readonly Model[],
  tokens: readonly number[],
  { windows, signal, onProgress }: CompareOptions,
): Promise<Quality[]> {
  const count = Math.min(windows, Math.floor(tokens.length / windowTokens));
  const scores = after.map(() => new Score());
  for (let window = 0; window < count; window++) {
    const ids = tokens.slice(window * windowTokens, (window + 1) * windowTokens);
    const sessions = [before, ...after].map((model) => model.session(windowTokens, signal));
    try {
      for (let start = 0; start < windowTokens; start += stepTokens) {
        await scoreStep(sessions, ids, start, scores);
        signal.throwIfAborted();
        onProgress(window * windowTokens + start + stepTokens, count * windowTokens);
      }
    } finally {
      for (const session of sessions) session.dispose();
    }
  }
  return scores.map((score) => score.quality(count));
}

async function scoreStep(
  [first, ...others]: readonly Session[],
  ids: readonly number[],
  start: number,
  scores: readonly Score[],
): Promise<void> {
  const chunk = ids.slice(start, start + stepTokens);
  const scored = start + stepTokens > scoredFrom;
  const before = await stepRows(first, chunk, scored);
  for (const [index, session] of others.entries()) {
    const after = await stepRows(session, chunk, scored);
    for (const [row, logP] of before.entries()) {
      const at = start + row;
      if (at >= scoredFrom && at + 1 < ids.length) scores[index].add(logP, after[row], ids[at + 1]);
    }
  }
}

/** Log probabilities after every token of a step; none where they do not count. */
async function stepRows(session: Session, chunk: readonly number[], scored: boolean): Promise<Float64Array[]> {
  const result = session.step(chunk, { logits: scored ? 'all' : 'none' });
  if (!result) {
    await session.backend.ready();
    return [];
  }
  const logits = (await result.read()) as Float32Array;
  result.dispose();
  const vocabulary = logits.length / chunk.length;
  return chunk.map((_, row) => logSoftmax(logits.subarray(row * vocabulary, (row + 1) * vocabulary)));
}

class Score {
  readonly #divergences: number[] = [];
  #lossBefore = 0;
  #lossAfter = 0;
  #same = 0;

  /** Takes log probabilities in. */
  add(logP: Float64Array, logQ: Float64Array, next: number): void {
    this.#divergences.push(divergence(logP, logQ));
    this.#lossBefore -= logP[next];
    this.#lossAfter -= logQ[next];
    if (argMax(logP) === argMax(logQ)) this.#same++;
  }

  quality(windows: number): Quality {
    const tokens = this.#divergences.length;
    const sorted = this.#divergences.toSorted((a, b) => a - b);
    return {
      windows,
      tokens,
      perplexityBefore: Math.exp(this.#lossBefore / tokens),
      perplexityAfter: Math.exp(this.#lossAfter / tokens),
      klMean: sorted.reduce((sum, value) => sum + value, 0) / tokens,
      kl99: sorted[Math.floor(0.99 * (tokens - 1))],
      klMax: sorted[tokens - 1],
      sameTop: this.#same / tokens,
    };
  }
}

function argMax(row: Float64Array): number {
  let best = 0;
  for (let index = 1; index < row.length; index++) if (row[index] > row[best]) best = index;
  return best;
}
