import { OptionError } from '@filigree/core-tensor';
import type { PagePool } from '../page-pool.js';
import type { CachePolicy, CacheUse } from '../policy/cache-policy.js';
import { gdsf } from '../policy/policies.js';
import { pageHash, rootHash } from './prefix-keys.js';
import type { PrefixIndexOptions } from './prefix-index.js';

/** Attention to as many entries as one token's other work is worth. */
const tokenWork = 4096;

function defaultCost(start: number, end: number): number {
  return (end - start) * (tokenWork + (start + end) / 2);
}

/** A page of an index: its id with the policy, and where the index keeps it. */
export interface LedgerEntry<Place> {
  readonly id: number;
  readonly page: number;
  /** Pages before it. */
  readonly depth: number;
  place: Place;
}

/**
 * What all prefix indexes do alike: owning pages, asking the policy. Ids are hashes of all tokens up to the end of a page, so that the policy knows a
 * prefix again that was evicted; where two that are held at once collide, one gets another id.
 */
export class PageLedger<Place> {
  readonly #entries = new Map<number, LedgerEntry<Place>>();
  /** Pages held, to refuse one that is given for other tokens. */
  readonly #pages = new Set<number>();
  readonly #policy: CachePolicy;
  readonly #maxPages: number;
  readonly #cost: (start: number, end: number) => number;

  constructor(
    readonly pool: PagePool,
    { policy = gdsf(), maxPages = pool.pages, cost = defaultCost }: PrefixIndexOptions,
  ) {
    if (!Number.isInteger(maxPages) || maxPages < 1)
      throw new OptionError(`PrefixIndex: maxPages is ${maxPages}, it must be a positive integer`);
    if (policy.size > 0) throw new OptionError('PrefixIndex: policy has items already; every index takes one of its own');
    this.#policy = policy;
    this.#maxPages = maxPages;
    this.#cost = cost;
  }

  get size(): number {
    return this.#entries.size;
  }

  entries(): LedgerEntry<Place>[] {
    return [...this.#entries.values()];
  }

  get(id: number): LedgerEntry<Place> | undefined {
    return this.#entries.get(id);
  }

  /** Counts a request of the pages of a prefix, of those in `ids` by these, of the rest by the ids they would have. */
  touch(ids: readonly number[], keys: Int32Array, extras: string): void {
    for (const [index, id] of ids.entries()) this.#policy.touch(id, this.#use(index));
    for (const [index, id] of this.newIds(ids, keys, extras).entries()) {
      // An id that is held is another prefix's.
      if (!this.#entries.has(id)) this.#policy.touch(id, this.#use(ids.length + index));
    }
  }

  /** Ids of the full pages of a prefix after those it has. */
  newIds(ids: readonly number[], keys: Int32Array, extras: string): number[] {
    const { pageSize } = this.pool;
    const found: number[] = [];
    let parent = ids.at(-1) ?? rootHash(extras);
    for (let end = (ids.length + 1) * pageSize; end <= keys.length; end += pageSize) {
      parent = pageHash(parent, keys.subarray(end - pageSize, end));
      found.push(parent);
    }
    return found;
  }

  /** @throws OptionError unless these pages are in use, all different, and none of the index. */
  expectNew(pages: readonly number[]): void {
    this.pool.expectUsed('PrefixIndex.insert', pages);
    const seen = new Set<number>();
    for (const page of pages) {
      if (this.#pages.has(page) || seen.has(page))
        throw new OptionError(`PrefixIndex.insert: pages has ${page}, which is there for other tokens`);
      seen.add(page);
    }
  }

  /** How many of the pages that follow `depth` others come in; the policy gives up others for them. Locked ones never go. */
  room(depth: number, ids: readonly number[], drop: (entry: LedgerEntry<Place>) => void): number {
    for (const [index, id] of ids.entries()) {
      if (this.size + index < this.#maxPages) continue;
      const admitted = this.#entries.has(id) || this.#policy.admit(id, this.#use(depth + index));
      if (!admitted || this.evict(1, drop) === 0) return index;
    }
    return ids.length;
  }

  /** Owns a page at a depth, pinned: the index says when it can go. */
  add(id: number, page: number, depth: number, place: Place): LedgerEntry<Place> {
    let own = id;
    while (this.#entries.has(own)) own = (own + 1) % Number.MAX_SAFE_INTEGER;
    const entry = { id: own, page, depth, place };
    this.#entries.set(own, entry);
    this.#pages.add(page);
    this.pool.retain(page);
    this.#policy.add(own, this.#use(depth));
    this.#policy.pin(own);
    return entry;
  }

  /** Whether a page can go, as far as the index is concerned. */
  setLoose(id: number, loose: boolean): void {
    if (loose) this.#policy.unpin(id);
    else this.#policy.pin(id);
  }

  /** Gives up pages that nobody else has, in the order of the policy; `drop` takes each out of the index, which may loosen the page before it. */
  evict(count: number, drop: (entry: LedgerEntry<Place>) => void): number {
    const used: number[] = [];
    let done = 0;
    while (done < count) {
      const id = this.#policy.victim();
      const entry = id === undefined ? undefined : this.#entries.get(id);
      if (!entry) break;
      if (this.pool.shared(entry.page)) {
        this.#policy.pin(entry.id);
        used.push(entry.id);
        continue;
      }
      this.#forget(entry);
      drop(entry);
      done++;
    }
    for (const id of used) this.#policy.unpin(id);
    return done;
  }

  /** Gives up everything. */
  dispose(): void {
    for (const entry of [...this.#entries.values()]) this.#forget(entry);
  }

  #forget({ id, page }: LedgerEntry<Place>): void {
    this.#entries.delete(id);
    this.#pages.delete(page);
    this.#policy.remove(id);
    this.pool.release(page);
  }

  #use(depth: number): CacheUse {
    const { pageSize, pageBytes } = this.pool;
    return { cost: this.#cost(depth * pageSize, (depth + 1) * pageSize), bytes: pageBytes };
  }
}
