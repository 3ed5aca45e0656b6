import type { Tensor } from '@filigree/core-tensor';
import type { NextLogits } from '../model/session.js';
import { indexOfMaximum, nonFinite, type Sampler } from './sampler.js';

/** The token that a step's logits give: on the device when greedy, else drawn on the host. Owns what the step gave. */
export class NextToken {
  readonly #id: Promise<number>;

  /**
   * Reads at once, so that a backend hands the read over with the step. `check`: read all logits and reject NaN among them; without it a greedy
   * choice looks at the chosen one only.
   */
  constructor(
    private readonly step: NextLogits,
    private readonly sampler: Sampler,
    private readonly options: { readonly check: boolean },
  ) {
    this.#id = this.#read();
    // Nobody asks for a token behind the end.
    this.#id.catch(() => undefined);
  }

  /** The most likely token as ids i32 [1] for the next step. */
  onDevice(): Tensor {
    return this.step.best;
  }

  /** The token's id. @throws NonFiniteLogitsError, or what the step failed with. */
  id(): Promise<number> {
    return this.#id;
  }

  dispose(): void {
    const { logits, best, value } = this.step;
    for (const tensor of [logits, best, value]) tensor.dispose();
  }

  async #read(): Promise<number> {
    const { logits, best, value } = this.step;
    if (!this.sampler.greedy || this.options.check) {
      const read = (await logits.read()) as Float32Array;
      return this.sampler.greedy ? indexOfMaximum(read) : this.sampler.draw(read);
    }
    const [[chosen], [id]] = await Promise.all([value.readNumbers(), best.readNumbers()]);
    if (!Number.isFinite(chosen)) throw nonFinite(`the largest logit is ${chosen}`);
    return id;
  }
}
