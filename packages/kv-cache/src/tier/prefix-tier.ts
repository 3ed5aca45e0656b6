import { OptionError } from '@filigree/core-tensor';
import { KvCapacityError } from '../errors.js';
import { BoundedSet } from '../policy/bounded-set.js';
import type { CachePolicy } from '../policy/cache-policy.js';
import { lru } from '../policy/policies.js';
import { pageHash, rootHash, sameTokens, tokenKeys } from '../prefix/prefix-keys.js';
import type { EvictedPage, PrefixIndex, PrefixKey } from '../prefix/prefix-index.js';
import { crc32c } from '../store/crc32c.js';
import type { KvTier } from './kv-tier.js';
import { readPage, writePage } from './page-bytes.js';

export interface PrefixTierOptions {
  /** Pages the tier may hold. */
  readonly capacity: number;
  /** Which of them go first; default {@link lru}. */
  readonly policy?: CachePolicy | undefined;
}

/** A page in the tier, found by all tokens up to its end. */
interface Demoted {
  readonly keys: Int32Array;
  readonly extras: string;
  readonly slot: number;
  /** Of its bytes, once they are written; undefined: they never were. */
  readonly checksum: Promise<number | undefined>;
}

/**
 * Takes the pages that a prefix index evicts to a tier, and brings them back. Pages of a tier are checked when they are read; one that is damaged is as good
 * as not there.
 *
 * As in LMCache, and Liu et al., "CacheGen: KV Cache Compression and Streaming for Fast Large Language Model Serving", arXiv:2310.07240.
 */
export class PrefixTier {
  readonly #pages = new Map<number, Demoted>();
  readonly #held: BoundedSet;
  readonly #free: number[] = [];
  readonly #stop: () => void;
  /** Reads and writes of the tier, one after another: a slot may be used again at once. */
  #queue: Promise<unknown> = Promise.resolve();
  #slots = 0;
  #closed = false;

  constructor(
    readonly index: PrefixIndex,
    readonly tier: KvTier,
    { capacity, policy = lru() }: PrefixTierOptions,
  ) {
    if (!Number.isInteger(capacity) || capacity < 1)
      throw new OptionError(`PrefixTier: capacity is ${capacity}, it must be a positive number of pages`);
    this.#held = new BoundedSet(policy, capacity * index.pool.pageBytes);
    this.#stop = index.onEvict((page) => {
      this.#demote(page);
    });
  }

  /** Pages held. */
  get size(): number {
    return this.#pages.size;
  }

  /** Moves up to `count` pages from the index to the tier; resolves with how many it gave up, once they are written. */
  async demote(count: number): Promise<number> {
    const done = this.index.evict(count);
    await this.#queue;
    return done;
  }

  /**
   * Brings the pages of a prefix back that follow what the index has, as far as they are here, intact, and there is room for them. Resolves with how many; {@link
   * PrefixIndex.match} finds them then.
   */
  async promote(tokens: ArrayLike<number>, key: PrefixKey = {}): Promise<number> {
    const { pool } = this.index;
    const keys = tokenKeys('PrefixTier.promote', tokens);
    const match = this.index.match(keys, key);
    const taken: number[] = [];
    try {
      await this.#bring(keys, key.extras ?? '', match.length, taken);
      if (taken.length > 0) this.index.insert(keys, [...match.pages, ...taken], key);
      // The index owns what it took in.
      return taken.filter((page) => pool.shared(page)).length;
    } finally {
      for (const page of taken) pool.release(page);
      match.release();
    }
  }

  /** Takes no more pages and forgets those it has. The tier stays open. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#stop();
    await this.#queue;
    for (const [id, { slot }] of this.#pages) {
      this.tier.free(slot);
      this.#held.delete(id);
    }
    this.#pages.clear();
  }

  #demote({ page, tokens, extras }: EvictedPage): void {
    const { pool } = this.index;
    const id = this.#id(tokens, extras);
    const known = this.#find(id, tokens, extras);
    const { hit, held, evicted } = this.#held.request(id, { cost: 1, bytes: pool.pageBytes });
    for (const other of evicted) this.#forget(other);
    if (!held || known) return;
    // What has the same hash gives way.
    if (hit) this.#release(id);
    const slot = this.#free.pop() ?? this.#slots++;
    // The page is read in the order of the backend's queue, before anyone writes into it.
    const bytes = readPage(pool, page);
    const checksum = this.#enqueue(async () => {
      const content = await bytes;
      await this.tier.write(slot, content);
      return crc32c(content);
    }).catch(() => undefined);
    this.#pages.set(id, { keys: tokens, extras, slot, checksum });
  }

  /** Takes pages of the pool for what follows the first `start` tokens and fills them, as far as there are both. */
  async #bring(keys: Int32Array, extras: string, start: number, taken: number[]): Promise<void> {
    const { pool } = this.index;
    try {
      for (let end = start + pool.pageSize; end <= keys.length; end += pool.pageSize) {
        const bytes = await this.#read(keys.subarray(0, end), extras);
        if (!bytes) return;
        const page = pool.take();
        taken.push(page);
        writePage(pool, page, bytes);
      }
    } catch (error) {
      if (!(error instanceof KvCapacityError)) throw error;
    }
  }

  /** Bytes of a page; undefined when it is not here or damaged. */
  async #read(keys: Int32Array, extras: string): Promise<Uint8Array | undefined> {
    const id = this.#id(keys, extras);
    const found = this.#find(id, keys, extras);
    if (!found || this.#closed) return undefined;
    this.#held.request(id, { cost: 1, bytes: this.index.pool.pageBytes });
    const bytes = await this.#enqueue(() => this.tier.read(found.slot)).catch(() => undefined);
    const checksum = await found.checksum;
    if (bytes?.length === this.index.pool.pageBytes && crc32c(bytes) === checksum) return bytes;
    if (this.#pages.get(id) === found) this.#forget(id);
    return undefined;
  }

  #enqueue<T>(action: () => Promise<T>): Promise<T> {
    const next = this.#queue.then(action);
    this.#queue = next.catch(() => undefined);
    return next;
  }

  #find(id: number, keys: Int32Array, extras: string): Demoted | undefined {
    const found = this.#pages.get(id);
    return found && found.extras === extras && sameTokens(found.keys, keys) ? found : undefined;
  }

  #forget(id: number): void {
    this.#held.delete(id);
    this.#release(id);
  }

  #release(id: number): void {
    const found = this.#pages.get(id);
    if (!found) return;
    this.#pages.delete(id);
    this.#free.push(found.slot);
    void this.#enqueue(() => Promise.resolve(this.tier.free(found.slot)));
  }

  #id(keys: Int32Array, extras: string): number {
    return pageHash(rootHash(extras), keys);
  }
}
