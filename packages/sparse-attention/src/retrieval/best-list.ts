/**
 * The best so many of what is offered: a heap with the worst on top. Of equal scores the lower id is better; NaN is worst.
 */
export class BestList {
  readonly #ids: Int32Array;
  readonly #scores: Float64Array;
  #size = 0;

  constructor(readonly capacity: number) {
    this.#ids = new Int32Array(capacity);
    this.#scores = new Float64Array(capacity);
  }

  get size(): number {
    return this.#size;
  }

  /** Score that something new has to exceed; −∞ as long as there is room. */
  get threshold(): number {
    return this.#size < this.capacity ? -Infinity : this.#scores[0];
  }

  /** Whether it was taken. */
  offer(id: number, score: number): boolean {
    const value = Number.isNaN(score) ? -Infinity : score;
    if (this.#size < this.capacity) {
      this.#rise(this.#size++, id, value);
      return true;
    }
    if (this.capacity === 0 || !this.#isWorse(0, id, value)) return false;
    this.#sink(id, value);
    return true;
  }

  /** Ids, best first. */
  descending(): Int32Array {
    const order = Array.from({ length: this.#size }, (_, index) => index);
    order.sort((a, b) => this.#scores[b] - this.#scores[a] || this.#ids[a] - this.#ids[b]);
    return Int32Array.from(order, (index) => this.#ids[index]);
  }

  /** Whether the entry at `place` is worse than a new one. */
  #isWorse(place: number, id: number, score: number): boolean {
    const own = this.#scores[place];
    return own < score || (own === score && this.#ids[place] > id);
  }

  #put(place: number, id: number, score: number): void {
    this.#ids[place] = id;
    this.#scores[place] = score;
  }

  #rise(place: number, id: number, score: number): void {
    while (place > 0) {
      const parent = (place - 1) >> 1;
      if (this.#isWorse(parent, id, score)) break;
      this.#put(place, this.#ids[parent], this.#scores[parent]);
      place = parent;
    }
    this.#put(place, id, score);
  }

  #sink(id: number, score: number): void {
    let place = 0;
    for (;;) {
      let child = 2 * place + 1;
      if (child >= this.#size) break;
      if (child + 1 < this.#size && this.#isWorse(child + 1, this.#ids[child], this.#scores[child])) child++;
      if (!this.#isWorse(child, id, score)) break;
      this.#put(place, this.#ids[child], this.#scores[child]);
      place = child;
    }
    this.#put(place, id, score);
  }
}
