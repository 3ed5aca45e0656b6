import type { Tensor } from '@filigree/core-tensor';
import type { PhaseAttention } from '../attention/attention-choice.js';
import type { NextLogits, Session } from '../model/session.js';
import { NextToken } from './next-token.js';
import type { Sampler } from './sampler.js';

/** Tokens of a generation, one after another. */
export interface TokenSource {
  /** The next token. `more`: how many may still be asked for behind it. */
  next(more: number): Promise<number>;
  dispose(): void;
}

/** One step for every token. */
export class StepByStep implements TokenSource {
  #current: NextToken | undefined;
  #following: NextToken | undefined;
  #last: number | undefined;

  /** @param first what the prompt's step gave; belongs to the source. */
  constructor(
    private readonly session: Session,
    private readonly sampler: Sampler,
    private readonly attention: PhaseAttention | undefined,
    first: NextToken,
  ) {
    this.#following = first;
  }

  async next(more: number): Promise<number> {
    const current = this.#following ?? (await this.#decode([this.#last ?? 0]));
    this.#following = undefined;
    this.#current?.dispose();
    this.#current = current;
    await this.session.settle();
    // Greedy: the next step starts from the token on the device, before the host has seen it.
    if (more > 0 && this.sampler.greedy) this.#following = await this.#decode(current.onDevice());
    return (this.#last = await current.id());
  }

  dispose(): void {
    this.#current?.dispose();
    this.#following?.dispose();
    this.#current = undefined;
    this.#following = undefined;
  }

  #decode(token: readonly number[] | Tensor): NextToken | Promise<NextToken> {
    const step = this.session.next(token, this.attention);
    const nextOf = (logits: NextLogits): NextToken => new NextToken(logits, this.sampler, { check: false });
    return step instanceof Promise ? step.then(nextOf) : nextOf(step);
  }
}
