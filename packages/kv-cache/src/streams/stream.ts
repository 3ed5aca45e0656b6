import type { PagePool } from '../page-pool.js';

/** Pages and the positions of their entries. */
export interface StreamEntries {
  readonly pages: readonly number[];
  readonly positions: Int32Array;
}

/**
 * Entries of one head of one layer: in the order of their positions, but for those that were overwritten or moved. New entries stand at the end, in order,
 * and are newer than all others. Its pages belong to a pool of pages with one head each.
 */
export class Stream {
  readonly pages: number[] = [];
  /** Position in the sequence of every entry. */
  positions: Int32Array = new Int32Array(0);
  /** Position that the key of every entry was written for, once some were moved. */
  #origins: Int32Array | undefined;
  #length = 0;

  constructor(private readonly pool: PagePool) {}

  get length(): number {
    return this.#length;
  }

  /** Of the positions, and of what keys were written for. */
  get bytes(): number {
    return this.positions.byteLength + (this.#origins?.byteLength ?? 0);
  }

  /** Position that the key of an entry was written for. */
  origin(entry: number): number {
    return this.#origins?.[entry] ?? this.positions[entry];
  }

  /** Entries are at other positions now; their keys were written for those unless `moved`. */
  place(entries: readonly number[], positions: ArrayLike<number>, { moved }: { readonly moved: boolean }): void {
    if (moved) this.#origins ??= this.positions.slice();
    for (const [index, entry] of entries.entries()) {
      this.positions[entry] = positions[index];
      if (this.#origins && !moved) this.#origins[entry] = positions[index];
    }
  }

  /** Pages that must be taken before `count` entries can follow: new ones, and a copy of the last one if a fork has it too. */
  missing(count: number): number {
    if (count === 0) return 0;
    const more = Math.ceil((this.#length + count) / this.pool.pageSize) - this.pages.length;
    return more + (this.#writesShared() ? 1 : 0);
  }

  /**
   * Makes room for entries and says where they go; whether pages changed shows in {@link pages}. The pool must have {@link missing} pages. Origins are the
   * positions where they are not given.
   */
  extend(positions: ArrayLike<number>, origins: ArrayLike<number> = positions): Int32Array {
    const { pageSize } = this.pool;
    const start = this.#length;
    if (positions.length > 0 && this.#writesShared()) this.own(this.pages.length - 1);
    this.#length += positions.length;
    while (this.pages.length * pageSize < this.#length) this.pages.push(this.pool.take());
    if (this.positions.length < this.#length) {
      const room = Math.max(this.#length, Math.ceil(1.5 * this.positions.length));
      const grown = (numbers: Int32Array): Int32Array => {
        const larger = new Int32Array(room);
        larger.set(numbers.subarray(0, start));
        return larger;
      };
      this.positions = grown(this.positions);
      this.#origins &&= grown(this.#origins);
    }
    this.positions.set(positions, start);
    this.#origins?.set(origins, start);
    return this.slots(start, this.#length);
  }

  /** Puts a copy in the place of a page that others have too, which must be free; whether it did. */
  own(index: number): boolean {
    const page = this.pages[index];
    if (!this.pool.shared(page)) return false;
    this.pages[index] = this.pool.copy(page, Math.min(this.pool.pageSize, this.#length - index * this.pool.pageSize));
    this.pool.release(page);
    return true;
  }

  /** Indices of the pages that hold some entries and that others have too. */
  sharedPages(entries: Iterable<number>): number[] {
    const indices = new Set(Array.from(entries, (entry) => Math.floor(entry / this.pool.pageSize)));
    return [...indices].filter((index) => this.pool.shared(this.pages[index]));
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

  /** Entries before a position that no entry was evicted, overwritten or moved behind: those at the end that are not before it are as many as it takes. */
  before(position: number): number {
    let length = this.#length;
    while (length > 0 && this.positions[length - 1] >= position) length--;
    return length;
  }

  /** The same entries for another owner of the pages. */
  fork(): Stream {
    const child = new Stream(this.pool);
    for (const page of this.pages) {
      this.pool.retain(page);
      child.pages.push(page);
    }
    child.positions = this.positions.slice(0, this.#length);
    child.#origins = this.#origins?.slice(0, this.#length);
    child.#length = this.#length;
    return child;
  }

  /** Whether the next entry falls into a page that a fork has too. */
  #writesShared(): boolean {
    const last = this.pages.at(-1);
    return last !== undefined && this.#length % this.pool.pageSize !== 0 && this.pool.shared(last);
  }
}
