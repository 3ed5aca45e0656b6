import { OptionError, Random } from '@filigree/core-tensor';
import { NonFiniteLogitsError } from '../errors.js';

/** How the next token is drawn. */
export interface SamplingOptions {
  /** 0 (default): the most likely token. */
  readonly temperature?: number | undefined;
  /** Keep the k most likely tokens; 0: all. */
  readonly topK?: number | undefined;
  /** Keep the smallest set with at least this probability. Holtzman et al., arXiv:1904.09751. */
  readonly topP?: number | undefined;
  /** Keep tokens at least this fraction as likely as the most likely one. Nguyen et al., arXiv:2407.01082. */
  readonly minP?: number | undefined;
  /** The same seed and model give the same text. Default 0. */
  readonly seed?: number | undefined;
}

/** Draws tokens from logits: top-k, then top-p, then min-p on the model's probabilities, then the temperature. */
export class Sampler {
  readonly #options: Required<{ [K in keyof SamplingOptions]: number }>;
  readonly #random: Random;

  /** @throws OptionError naming an option that is out of range. */
  constructor(options: SamplingOptions = {}) {
    const { temperature = 0, topK = 0, topP = 1, minP = 0, seed = 0 } = options;
    expect('temperature', temperature, temperature >= 0 && Number.isFinite(temperature), 'a number from 0');
    expect('topK', topK, Number.isInteger(topK) && topK >= 0, 'an integer from 0');
    expect('topP', topP, topP > 0 && topP <= 1, 'a number above 0, at most 1');
    expect('minP', minP, minP >= 0 && minP <= 1, 'a number from 0 to 1');
    expect('seed', seed, Number.isSafeInteger(seed) && seed >= 0, 'an integer from 0');
    this.#options = { temperature, topK, topP, minP, seed };
    this.#random = new Random(seed);
  }

  /** Whether the most likely token is always taken, so that logits need not leave the device. */
  get greedy(): boolean {
    return this.#options.temperature === 0;
  }

  /** The next token for logits [vocabulary]. @throws NonFiniteLogitsError */
  draw(logits: Float32Array): number {
    const best = indexOfMaximum(logits);
    if (this.greedy) return best;
    const { temperature } = this.#options;
    const candidates = this.#candidates(logits, logits[best]);
    const weights = candidates.map((id) => Math.exp((logits[id] - logits[best]) / temperature));
    let rest = this.#random.nextFloat() * weights.reduce((sum, weight) => sum + weight, 0);
    for (const [index, id] of candidates.entries()) {
      rest -= weights[index];
      if (rest < 0) return id;
    }
    return candidates[candidates.length - 1];
  }

  /** Ids that may be drawn, most likely first. */
  #candidates(logits: Float32Array, maximum: number): number[] {
    const { topK, topP, minP } = this.#options;
    let total = 0;
    for (const logit of logits) total += Math.exp(logit - maximum);
    // Tokens below this share of the best one cannot matter, whatever the other limits say: less to sort.
    const least = Math.max(minP, 1e-12);
    const found: number[] = [];
    for (let id = 0; id < logits.length; id++) if (Math.exp(logits[id] - maximum) >= least) found.push(id);
    found.sort((a, b) => logits[b] - logits[a] || a - b);
    if (topK > 0 && found.length > topK) found.length = topK;
    if (topP < 1) {
      const kept = topK > 0 ? found.reduce((sum, id) => sum + Math.exp(logits[id] - maximum), 0) : total;
      let [sum, count] = [0, 0];
      while (count < found.length && sum < topP * kept) sum += Math.exp(logits[found[count++]] - maximum);
      found.length = Math.max(1, count);
    }
    return found;
  }
}

function expect(name: string, value: number, holds: boolean, expected: string): void {
  if (!holds) throw new OptionError(`sampling: ${name} is ${value}, it must be ${expected}`);
}

/** Index of the largest logit, the first of equals. @throws NonFiniteLogitsError when there is a NaN, or no finite one. */
export function indexOfMaximum(logits: Float32Array): number {
  let best = 0;
  for (let id = 0; id < logits.length; id++) {
    if (Number.isNaN(logits[id])) throw nonFinite(`logit ${id} is NaN`);
    if (logits[id] > logits[best]) best = id;
  }
  if (!Number.isFinite(logits[best])) throw nonFinite(`the largest logit is ${logits[best]}`);
  return best;
}

export function nonFinite(what: string): NonFiniteLogitsError {
  return new NonFiniteLogitsError(
    `generate: ${what}; weights of the model are broken, or its activations exceed the range of f32`,
  );
}
