import { empty, keep, type Tensor } from '@filigree/core-tensor';
import type { PageFollower, PagePool } from '../page-pool.js';

/** What entries have beside keys and values: names of the numbers that caches keep for them. */
export const entryNumbers = ['bias', 'received'] as const;
export type EntryNumber = (typeof entryNumbers)[number];

/** What a pool knows the numbers by. */
const key = (name: EntryNumber): string => `${name} of entries`;

/**
 * A number for every entry of a pool of pages with one head each: 0 until it is set, shared, copied and dropped together with its page. Biases are on the
 * device too, [pages, 1, P] f32, which is written whenever they change.
 */
export class PageNumbers implements PageFollower {
  /** Where attention reads them. */
  readonly tensor: Tensor | undefined;
  readonly #values: Float32Array;
  readonly #pageSize: number;

  constructor(
    private readonly pool: PagePool,
    onDevice: boolean,
  ) {
    const { backend, pages, pageSize } = pool;
    this.#pageSize = pageSize;
    this.#values = new Float32Array(pages * pageSize);
    if (!onDevice) return;
    this.tensor = keep(empty(backend, [pages, 1, pageSize], 'f32'));
    backend.write(this.tensor.storage, this.tensor.byteOffset, new Uint8Array(this.#values.buffer));
  }

  /** The numbers of a pool, if there are some. */
  static find(pool: PagePool, name: EntryNumber): PageNumbers | undefined {
    return pool.follower<PageNumbers>(key(name));
  }

  /** The numbers of a pool, all 0 where there were none. */
  static of(pool: PagePool, name: EntryNumber): PageNumbers {
    return pool.follow(key(name), () => new PageNumbers(pool, name === 'bias'));
  }

  /** Bytes of a page: on the device, or on the host where they are there alone. */
  get pageBytes(): number {
    return this.#pageSize * Float32Array.BYTES_PER_ELEMENT;
  }

  /** Numbers of rows of the pool. */
  get(slots: ArrayLike<number>): Float32Array {
    return Float32Array.from(slots, (slot) => this.#values[slot]);
  }

  /** Sets numbers of rows of the pool, all to 0 without values. */
  set(slots: ArrayLike<number>, values?: ArrayLike<number>): void {
    const changed = new Set<number>();
    for (let index = 0; index < slots.length; index++) {
      const value = values ? Math.fround(values[index]) : 0;
      if (this.#values[slots[index]] === value) continue;
      this.#values[slots[index]] = value;
      changed.add(Math.floor(slots[index] / this.#pageSize));
    }
    for (const page of changed) this.#upload(page);
  }

  copied(source: number, target: number, entries: number): void {
    const from = source * this.#pageSize;
    const page = new Float32Array(this.#pageSize);
    page.set(this.#values.subarray(from, from + entries));
    this.set(this.#slotsOf(target, 0), page);
  }

  dropped(page: number, entries: number): void {
    this.set(this.#slotsOf(page, entries));
  }

  dispose(): void {
    this.tensor?.dispose();
  }

  #slotsOf(page: number, from: number): Int32Array {
    return Int32Array.from({ length: this.#pageSize - from }, (_, index) => page * this.#pageSize + from + index);
  }

  #upload(page: number): void {
    if (!this.tensor) return;
    const { buffer } = this.#values.slice(page * this.#pageSize, (page + 1) * this.#pageSize);
    this.pool.backend.write(this.tensor.storage, this.tensor.byteOffset + page * this.pageBytes, new Uint8Array(buffer));
  }
}
