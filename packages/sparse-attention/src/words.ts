/** A list of 32-bit words that grows. */
export class Words {
  #words = new Int32Array(1024);
  length = 0;

  push(word: number): void {
    if (this.length === this.#words.length) this.#grow(this.length + 1);
    this.#words[this.length++] = word;
  }

  /** Appends words of another list. */
  append(words: ArrayLike<number>): void {
    if (this.length + words.length > this.#words.length) this.#grow(this.length + words.length);
    this.#words.set(words, this.length);
    this.length += words.length;
  }

  #grow(least: number): void {
    const grown = new Int32Array(Math.max(2 * this.#words.length, least));
    grown.set(this.#words.subarray(0, this.length));
    this.#words = grown;
  }

  at(index: number): number {
    return this.#words[index];
  }

  set(index: number, word: number): void {
    this.#words[index] = word;
  }

  /** A copy of what is there. */
  take(): Int32Array {
    return this.#words.slice(0, this.length);
  }
}
