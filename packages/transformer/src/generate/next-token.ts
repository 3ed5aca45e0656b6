import { argMax, keep, takeAlongAxis, reshape, type Tensor } from '@filigree/core-tensor';
import { indexOfMaximum, nonFinite, type Sampler } from './sampler.js';

/** The token that logits [1, vocabulary] give: on the device when greedy, else drawn on the host. Owns the logits. */
export class NextToken {
  readonly #logits: Tensor;
  readonly #sampler: Sampler;
  readonly #best: Tensor | undefined;
  /** The logit of the chosen token, which is NaN or infinite when any is. */
  readonly #value: Tensor | undefined;
  readonly #check: boolean;

  /** `check`: read all logits and reject NaN among them; without it only the chosen one is looked at. */
  constructor(logits: Tensor, sampler: Sampler, { check }: { check: boolean }) {
    this.#logits = logits;
    this.#sampler = sampler;
    this.#check = check;
    if (!sampler.greedy) return;
    this.#best = keep(argMax(logits));
    if (check) return;
    const index = reshape(this.#best, [1, 1]);
    this.#value = keep(takeAlongAxis(logits, index));
    index.dispose();
  }

  /** The token as ids i32 [1] for the next step. Only when the sampler is greedy. */
  onDevice(): Tensor {
    return this.#best ?? this.#logits;
  }

  /** The token's id. @throws NonFiniteLogitsError, or what the step failed with. */
  async id(): Promise<number> {
    if (!this.#best || this.#check) {
      const logits = (await this.#logits.read()) as Float32Array;
      return this.#best ? indexOfMaximum(logits) : this.#sampler.draw(logits);
    }
    const [value, id] = await Promise.all([this.#value?.readNumbers(), this.#best.readNumbers()]);
    if (value && !Number.isFinite(value[0])) throw nonFinite(`the largest logit is ${value[0]}`);
    return id[0];
  }

  dispose(): void {
    for (const tensor of [this.#logits, this.#best, this.#value]) tensor?.dispose();
  }
}
