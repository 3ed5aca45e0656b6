import { argMax, concat, fromArray, OptionError, reshape, scope, takeAlongAxis, type Tensor } from '@filigree/core-tensor';
import type { KvChoice } from '../kv/kv-choice.js';
import type { Session } from '../model/session.js';
import type { NextToken } from './next-token.js';
import { nonFinite, type Sampler } from './sampler.js';
import type { TokenSource } from './token-source.js';

/** Drafts by the same model over a cache that was cut down, which one dense step verifies. */
export interface SpeculationOptions {
  /** What drafts see of the prompt; default SnapKV with 1,024 entries per head. */
  readonly kv?: KvChoice | undefined;
  /** Tokens of a draft; default 4. */
  readonly gamma?: number | undefined;
}

/** What became of drafts. */
export interface SpeculationStats {
  readonly rounds: number;
  readonly drafted: number;
  /** Drafted tokens that the dense step chose too. */
  readonly accepted: number;
}

export const defaultDraft: KvChoice = { method: 'snap-kv', options: { budget: 1024 } };

/** @throws OptionError when gamma is no positive integer of at most 64. */
export function draftLength({ gamma = 4 }: SpeculationOptions): number {
  if (Number.isInteger(gamma) && gamma >= 1 && gamma <= 64) return gamma;
  throw new OptionError(`generate: speculate.gamma is ${gamma}, it must be an integer from 1 to 64`);
}

/**
 * Sparse drafts, dense verification: `gamma` steps over a part of the cache propose tokens, one step over all of it chooses what it would have chosen
 * anyway. The text is that of dense decoding, sampled or not, as every token is drawn from the dense logits in order; a draft only saves steps where it is
 * right. What was wrong is cut off both caches.
 *
 * Pays when a step is bound by reading the cache. Zhang et al., "Sparse-to-Dense: A Free Lunch for Lossless Acceleration of Video Understanding in LLMs",
 * arXiv:2505.19155.
 */
export class Speculative implements TokenSource {
  readonly #known: number[] = [];
  #first: NextToken | undefined;
  #last = 0;
  #stats: SpeculationStats = { rounds: 0, drafted: 0, accepted: 0 };

  /**
   * @param dense has read the prompt with all entries.
   * @param draft has read it too, and keeps less; belongs to the source.
   */
  constructor(
    private readonly dense: Session,
    private readonly draft: Session,
    private readonly sampler: Sampler,
    private readonly gamma: number,
    first: NextToken,
  ) {
    this.#first = first;
  }

  get stats(): SpeculationStats {
    return this.#stats;
  }

  async next(more: number): Promise<number> {
    if (this.#first) {
      this.#last = await this.#first.id();
      this.#first.dispose();
      this.#first = undefined;
      return this.#last;
    }
    if (this.#known.length === 0) await this.#round(Math.min(this.gamma, more));
    return (this.#last = this.#known.shift() ?? 0);
  }

  dispose(): void {
    this.#first?.dispose();
    this.#first = undefined;
    this.draft.dispose();
  }

  /** Drafts `count` tokens after the last one and finds out which stay: at least one token is known then. */
  async #round(count: number): Promise<void> {
    const { dense, draft } = this;
    const start = dense.end;
    const drafts = this.#drafts(count);
    const ids = scope(() => concat([fromArray(dense.backend, [this.#last], [1], 'i32'), ...drafts], 0));
    let logits: Tensor | undefined;
    try {
      logits = dense.step(ids, { logits: 'all' });
      const proposed = Array.from(await ids.readNumbers()).slice(1);
      const chosen = logits ? await this.#choose(logits, proposed) : [];
      const accepted = chosen.length - 1;
      this.#known.push(...chosen);
      dense.truncate(start + chosen.length);
      if (draft.end >= start + chosen.length) draft.truncate(start + chosen.length);
      else draft.step([proposed.at(-1) ?? this.#last], { logits: 'none' });
      const { rounds, ...before } = this.#stats;
      this.#stats = { rounds: rounds + 1, drafted: before.drafted + count, accepted: before.accepted + accepted };
    } finally {
      for (const tensor of [...drafts, ids]) tensor.dispose();
      logits?.dispose();
    }
  }

  /** Ids i32 [1] of a draft, still on the device. */
  #drafts(count: number): Tensor[] {
    const drafts: Tensor[] = [];
    for (let index = 0; index < count; index++) {
      const { logits, best, value } = this.draft.decode(drafts.at(-1) ?? [this.#last]);
      logits.dispose();
      value.dispose();
      drafts.push(best);
    }
    return drafts;
  }

  /** What dense decoding chooses as long as the draft agrees, and the token after that. */
  async #choose(logits: Tensor, proposed: readonly number[]): Promise<number[]> {
    const chosen: number[] = [];
    const choice = this.sampler.greedy ? await greedyChoices(logits) : await this.#drawn(logits);
    do chosen.push(choice(chosen.length));
    while (chosen.length <= proposed.length && chosen[chosen.length - 1] === proposed[chosen.length - 1]);
    return chosen;
  }

  async #drawn(logits: Tensor): Promise<(row: number) => number> {
    const [, vocabulary] = logits.shape;
    const all = (await logits.read()) as Float32Array;
    return (row) => this.sampler.draw(all.subarray(row * vocabulary, (row + 1) * vocabulary));
  }
}

/** The likeliest token of every row. @throws NonFiniteLogitsError, from the choice, where its logit is no number. */
async function greedyChoices(logits: Tensor): Promise<(row: number) => number> {
  const { best, value } = scope(() => {
    const rows = argMax(logits);
    return { best: rows, value: takeAlongAxis(logits, reshape(rows, [rows.size, 1])) };
  });
  try {
    const [ids, values] = await Promise.all([best.readNumbers(), value.readNumbers()]);
    return (row) => {
      if (!Number.isFinite(values[row])) throw nonFinite(`the largest logit is ${values[row]}`);
      return ids[row];
    };
  } finally {
    best.dispose();
    value.dispose();
  }
}
