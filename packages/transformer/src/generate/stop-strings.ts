import { OptionError } from '@filigree/core-tensor';

/** Passes text through until a stop string appears; holds back what could still become one. */
export class StopStrings {
  readonly #stops: readonly string[];
  #held = '';
  #found = false;

  constructor(stops: readonly string[] = []) {
    for (const stop of stops) if (stop === '') throw new OptionError('generate: a stop string is empty');
    this.#stops = stops;
  }

  /** Whether a stop string has appeared. */
  get found(): boolean {
    return this.#found;
  }

  /** The text that is certain; the stop string and what follows it never come. */
  push(text: string): string {
    if (this.#found) return '';
    const all = this.#held + text;
    const at = this.#stops.map((stop) => all.indexOf(stop)).filter((index) => index >= 0);
    if (at.length > 0) {
      this.#found = true;
      this.#held = '';
      return all.slice(0, Math.min(...at));
    }
    const held = Math.max(0, ...this.#stops.map((stop) => overlap(all, stop)));
    this.#held = all.slice(all.length - held);
    return all.slice(0, all.length - held);
  }

  /** What was held back, once no more text comes. */
  end(): string {
    const held = this.#held;
    this.#held = '';
    return held;
  }
}

/** Length of the longest end of `text` that begins `stop`. */
function overlap(text: string, stop: string): number {
  for (let length = Math.min(text.length, stop.length - 1); length > 0; length--)
    if (text.endsWith(stop.slice(0, length))) return length;
  return 0;
}
