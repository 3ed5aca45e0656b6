import { DisposedError } from '@filigree/core-tensor';
import type { PagePool } from '../page-pool.js';
import { PageLedger, type LedgerEntry } from './page-ledger.js';
import { tokenKeys } from './prefix-keys.js';
import type { EvictedPage, PrefixIndex, PrefixIndexOptions, PrefixKey, PrefixMatch } from './prefix-index.js';

/** The longest prefix that is there. */
export interface Found<Place> {
  readonly ids: readonly number[];
  readonly pages: readonly number[];
  /** Where it ends; undefined: nothing is there. */
  readonly end: Place | undefined;
}

/** What prefix indexes do alike; `Place` is what one keeps pages in. */
export abstract class BaseIndex<Place> implements PrefixIndex {
  protected readonly ledger: PageLedger<Place>;
  readonly #listeners = new Set<(page: EvictedPage) => void>();
  #disposed = false;

  constructor(
    readonly pool: PagePool,
    options: PrefixIndexOptions,
  ) {
    this.ledger = new PageLedger(pool, options);
    pool.join().follow(this, () => ({
      copied() {},
      dropped() {},
      dispose() {},
      reclaim: (pages) => void this.evict(pages),
    }));
  }

  get size(): number {
    return this.ledger.size;
  }

  match(tokens: ArrayLike<number>, { extras = '' }: PrefixKey = {}): PrefixMatch {
    this.#assertAlive();
    const keys = tokenKeys('PrefixIndex.match', tokens);
    const { ids, pages, end } = this.find(keys, extras);
    this.ledger.touch(ids, keys, extras);
    if (end !== undefined) this.lock(end, 1);
    let locked = end !== undefined;
    const release = (): void => {
      if (locked && end !== undefined && !this.#disposed) this.lock(end, -1);
      locked = false;
    };
    return { pages, length: pages.length * this.pool.pageSize, release, [Symbol.dispose]: release };
  }

  insert(tokens: ArrayLike<number>, pages: readonly number[], { extras = '' }: PrefixKey = {}): number[] {
    this.#assertAlive();
    const { pageSize } = this.pool;
    const all = tokenKeys('PrefixIndex.insert', tokens);
    const keys = all.subarray(0, Math.min(Math.floor(all.length / pageSize), pages.length) * pageSize);
    const full = pages.slice(0, keys.length / pageSize);
    this.pool.expectUsed('PrefixIndex.insert', full);
    const found = this.find(keys, extras);
    const more = full.slice(found.pages.length);
    this.ledger.expectNew(more);
    const ids = this.ledger.newIds(found.ids, keys, extras);
    if (found.end !== undefined) this.lock(found.end, 1);
    const count = this.ledger.room(found.pages.length, ids, this.#evicted);
    if (count > 0) this.append(found, { keys, extras, ids: ids.slice(0, count), pages: more.slice(0, count) });
    if (found.end !== undefined) this.lock(found.end, -1);
    return [...found.pages, ...more];
  }

  evict(count: number): number {
    return this.ledger.evict(count, this.#evicted);
  }

  onEvict(listener: (page: EvictedPage) => void): () => void {
    this.#listeners.add(listener);
    return () => {
      this.#listeners.delete(listener);
    };
  }

  evictable(): number {
    const { pool } = this;
    const blocked = new Set<number>();
    let count = 0;
    for (const entry of this.ledger.entries().sort((a, b) => b.depth - a.depth)) {
      if (!blocked.has(entry.id) && !this.locked(entry.place) && !pool.shared(entry.page)) {
        count++;
        continue;
      }
      const before = this.before(entry);
      if (before !== undefined) blocked.add(before);
    }
    return count;
  }

  clear(): number {
    return this.evict(this.size);
  }

  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.pool.unfollow(this);
    this.ledger.dispose();
    this.pool.leave();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  protected abstract find(keys: Int32Array, extras: string): Found<Place>;

  /** Locks the path to a place once more or less. */
  protected abstract lock(end: Place, by: 1 | -1): void;

  protected abstract locked(place: Place): boolean;

  /** Id of the page before one; undefined: it is the first. */
  protected abstract before(entry: LedgerEntry<Place>): number | undefined;

  /** Puts pages behind what was found. */
  protected abstract append(found: Found<Place>, more: Appended): void;

  /** Takes the last page of a prefix out. */
  protected abstract readonly drop: (entry: LedgerEntry<Place>) => void;

  /** All tokens up to the end of a page, and their namespace. */
  protected abstract keysOf(entry: LedgerEntry<Place>): Omit<EvictedPage, 'page'>;

  readonly #evicted = (entry: LedgerEntry<Place>): void => {
    if (this.#listeners.size > 0) {
      const page = { page: entry.page, ...this.keysOf(entry) };
      for (const listener of this.#listeners) listener(page);
    }
    this.drop(entry);
  };

  #assertAlive(): void {
    if (this.#disposed) throw new DisposedError('PrefixIndex: used after dispose()');
  }
}

/** Pages that come in; `keys` are the tokens of the whole prefix. */
export interface Appended {
  readonly keys: Int32Array;
  readonly extras: string;
  readonly ids: readonly number[];
  readonly pages: readonly number[];
}
