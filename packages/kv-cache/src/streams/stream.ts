import type { PagePool } from '../page-pool.js';

/** Pages and the positions of their entries. */
export interface StreamEntries {
  readonly pages: readonly number[];
  readonly positions: Int32Array;
}

/** Entries of one head of one layer, in the order of their positions. Its pages belong to a pool of pages with one head each. */
export class Stream {
  readonly pages: number[] = [];
  /** Position in the sequence of every entry, ascending. */
  positions: Int32Array = new Int32Array(0);
  #length = 0;

  constructor(private readonly pool: PagePool) {}

  get length(): number {
    return this.#length;
  }

  /** Pages that must be taken before `count` entries can follow: new ones, and a copy of the last one if a fork has it too. */
  missing(count: number): number {
    if (count === 0) return 0;
    const more = Math.ceil((this.#length + count) / this.pool.pageSize) - this.pages.length;
    return more + (this.#writesShared() ? 1 : 0);
  }

  /** Makes room for entries and says where they go; whether pages changed shows in {@link pages}. The pool must have {@link missing} pages. */
  extend(positions: ArrayLike<number>): Int32Array {
    const { pageSize } = this.pool;
    const start = this.#length;
    if (positions.length > 0 && this.#writesShared()) {
      const page = this.pages[this.pages.length - 1];
      this.pages[this.pages.length - 1] = this.pool.copy(page, start % pageSize);
      this.pool.release(page);
    }
    this.#length += positions.length;
    while (this.pages.length * pageSize < this.#length) this.pages.push(this.pool.take());
    if (this.positions.length < this.#length) {
      const grown = new Int32Array(Math.max(this.#length, Math.ceil(1.5 * this.positions.length)));
      grown.set(this.positions.subarray(0, start));
      this.positions = grown;
    }
    this.positions.set(positions, start);
    return this.slots(start, this.#length);
  }

  /** Takes over pages, which have just as many entries as there are positions. */
  restore({ pages, positions }: StreamEntries): void {
    this.pages.push(...pages);
    this.positions = positions;
    this.#length = positions.length;
  }

  /** Rows of the pool that hold entries. */
  slots(start: number, end: number): Int32Array {
    return Int32Array.from({ length: end - start }, (_, index) => this.slot(start + index));
  }

  slot(entry: number): number {
    const { pageSize } = this.pool;
    return this.pages[Math.floor(entry / pageSize)] * pageSize + (entry % pageSize);
  }

  /** Leaves the first `length` entries. */
  cut(length: number): void {
    const { pageSize } = this.pool;
    this.#length = length;
    while ((this.pages.length - 1) * pageSize >= length && this.pages.length > 0) this.pool.release(this.pages.pop() ?? 0);
    const rest = length % pageSize;
    const last = this.pages.at(-1);
    // A shared page keeps its entries for the others.
    if (rest > 0 && last !== undefined && !this.pool.shared(last)) this.pool.dropped(last, rest);
  }

  /** Entries before a position. */
  before(position: number): number {
    let [low, high] = [0, this.#length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.positions[middle] < position) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** The same entries for another owner of the pages. */
  fork(): Stream {
    const child = new Stream(this.pool);
    for (const page of this.pages) {
      this.pool.retain(page);
      child.pages.push(page);
    }
    child.positions = this.positions.slice(0, this.#length);
    child.#length = this.#length;
    return child;
  }

  /** Whether the next entry falls into a page that a fork has too. */
  #writesShared(): boolean {
    const last = this.pages.at(-1);
    return last !== undefined && this.#length % this.pool.pageSize !== 0 && this.pool.shared(last);
  }
}
