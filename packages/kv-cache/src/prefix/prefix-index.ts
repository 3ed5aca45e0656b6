import type { CachePolicy } from '../policy/cache-policy.js';
import type { PagePool } from '../page-pool.js';

export interface PrefixIndexOptions {
  /** Which pages go first; default {@link gdsf}. One policy serves one index. */
  readonly policy?: CachePolicy | undefined;
  /** Pages the index may hold; default all of the pool. */
  readonly maxPages?: number | undefined;
  /**
   * Work of computing entries from `start` to `end` again. Default: a token costs as much as attention to 4,096 entries, and the attention to what lies before
   * it; so (within a quarter) in models of 135M parameters with 30 layers of 9 heads of 64 channels.
   */
  readonly cost?: ((start: number, end: number) => number) | undefined;
}

export interface PrefixKey {
  /**
   * What else the entries depend on: model, codec, adapter, image. Entries of different ones are never taken for each other. Only what does not depend on a
   * question may be shared: dense entries, or compressed ones whose compressor is `queryAgnostic`.
   */
  readonly extras?: string | undefined;
}

/** The longest prefix that is there. Its pages are not evicted before `release()`. */
export interface PrefixMatch {
  /** For `new KvCache(backend, { pool, pages })`. */
  readonly pages: readonly number[];
  /** Entries in them. */
  readonly length: number;
  /** Ends the lock; a cache that began with the pages keeps them itself. Safe to call twice. */
  release(): void;
  [Symbol.dispose](): void;
}

/** A page that an index gives up. */
export interface EvictedPage {
  /** Its contents may be read by work that is queued at once. */
  readonly page: number;
  /** All tokens up to its end. */
  readonly tokens: Int32Array;
  readonly extras: string;
}

/**
 * Pages of a pool, found by the tokens they hold. Only full pages of dense entries enter; the index counts as one owner of each. Under pressure the pool
 * takes pages back that nobody but the index has: the last page of a prefix before those that it needs, in the order of the policy.
 *
 * To have logits, the last token of a prompt must run even where everything is there: look for `tokens.slice(0, -1)`.
 */
export interface PrefixIndex {
  readonly pool: PagePool;
  /** Pages held. */
  readonly size: number;
  /** Pages that {@link evict} could give back now. Counted anew by every call. */
  evictable(): number;
  /** The longest prefix of the tokens that is there, locked. */
  match(tokens: ArrayLike<number>, key?: PrefixKey): PrefixMatch;
  /**
   * Takes the full pages of a cache in, as far as they are new. Returns as many pages: those of the index where it had them, else those given. A
   * cache that goes on with them by {@link KvCache.adopt} gives its duplicates back.
   */
  insert(tokens: ArrayLike<number>, pages: readonly number[], key?: PrefixKey): number[];
  /** Gives up to `count` pages back; returns how many. */
  evict(count: number): number;
  /** Is told of every page that {@link evict} gives back, until the function it returns is called. */
  onEvict(listener: (page: EvictedPage) => void): () => void;
  /** Gives all pages back that are not locked or in use. */
  clear(): number;
  /** Gives up all pages; those that caches use stay theirs. Safe to call twice. */
  dispose(): void;
  [Symbol.dispose](): void;
}
