/** What a {@link Heap} orders: the least `rank` first, among equals the least `serial`. `place` is the heap's own. */
export interface Ranked {
  rank: number;
  serial: number;
  /** Index in the heap; −1: outside of it. */
  place: number;
}

/** A binary heap whose items know where they are, so that any of them can be moved or taken out in O(log n). */
export class Heap<Item extends Ranked> {
  readonly #items: Item[] = [];

  get size(): number {
    return this.#items.length;
  }

  get first(): Item | undefined {
    return this.#items[0];
  }

  /** Puts an item in, or moves it after its rank has changed. */
  place(item: Item): void {
    if (item.place < 0) {
      item.place = this.#items.length;
      this.#items.push(item);
    }
    this.#settle(item);
  }

  /** Takes an item out; nothing happens when it is not in. */
  take(item: Item): void {
    if (item.place < 0) return;
    const last = this.#items.pop();
    const { place } = item;
    item.place = -1;
    if (!last || last === item) return;
    this.#put(last, place);
    this.#settle(last);
  }

  #settle(item: Item): void {
    let at = item.place;
    for (;;) {
      const parent = (at - 1) >> 1;
      if (at === 0 || !before(item, this.#items[parent])) break;
      this.#put(this.#items[parent], at);
      at = parent;
    }
    for (;;) {
      let child = 2 * at + 1;
      if (child >= this.#items.length) break;
      if (child + 1 < this.#items.length && before(this.#items[child + 1], this.#items[child])) child++;
      if (!before(this.#items[child], item)) break;
      this.#put(this.#items[child], at);
      at = child;
    }
    this.#put(item, at);
  }

  #put(item: Item, place: number): void {
    this.#items[place] = item;
    item.place = place;
  }
}

function before(a: Ranked, b: Ranked): boolean {
  return a.rank === b.rank ? a.serial < b.serial : a.rank < b.rank;
}
