import type { PagePool } from '../page-pool.js';
import { BaseIndex, type Appended, type Found } from './base-index.js';
import type { LedgerEntry } from './page-ledger.js';
import { joinBackwards, pageHash, rootHash, sameTokens } from './prefix-keys.js';
import type { PrefixIndex, PrefixIndexOptions } from './prefix-index.js';

export interface HashChainOptions extends PrefixIndexOptions {
  /** Hash of a page of tokens after the hash of the pages before it; equal ones are told apart by their tokens. */
  readonly hash?: ((parent: number, tokens: Int32Array) => number) | undefined;
}

/** A page, after the one before it. */
interface Link {
  readonly hash: number;
  readonly tokens: Int32Array;
  readonly extras: string;
  readonly parent: Link | undefined;
  id: number;
  page: number;
  children: number;
  locks: number;
}

/**
 * A prefix index of one hash table: a page is found by the hash of its tokens after its parent's.
 *
 * Kwon et al., "Efficient Memory Management for Large Language Model Serving with PagedAttention", arXiv:2309.06180.
 */
export function hashChainIndex(pool: PagePool, options: HashChainOptions = {}): PrefixIndex {
  return new HashChain(pool, options);
}

class HashChain extends BaseIndex<Link> {
  readonly #links = new Map<number, Link[]>();
  readonly #hash: (parent: number, tokens: Int32Array) => number;

  constructor(pool: PagePool, { hash = pageHash, ...options }: HashChainOptions) {
    super(pool, options);
    this.#hash = hash;
  }

  protected find(keys: Int32Array, extras: string): Found<Link> {
    const { pageSize } = this.pool;
    const found: Link[] = [];
    for (let end = pageSize; end <= keys.length; end += pageSize) {
      const parent = found.at(-1);
      const tokens = keys.subarray(end - pageSize, end);
      const same = this.#links
        .get(this.#hashAfter(parent, tokens, extras))
        ?.find((link) => link.parent === parent && link.extras === extras && sameTokens(link.tokens, tokens));
      if (!same) break;
      found.push(same);
    }
    return { ids: found.map(({ id }) => id), pages: found.map(({ page }) => page), end: found.at(-1) };
  }

  protected lock(end: Link, by: 1 | -1): void {
    for (let link: Link | undefined = end; link; link = link.parent) {
      link.locks += by;
      this.#settle(link);
    }
  }

  protected locked({ locks }: Link): boolean {
    return locks > 0;
  }

  protected before({ place }: LedgerEntry<Link>): number | undefined {
    return place.parent?.id;
  }

  protected keysOf({ place }: LedgerEntry<Link>): { tokens: Int32Array; extras: string } {
    const parts: Int32Array[] = [];
    for (let link: Link | undefined = place; link; link = link.parent) parts.push(link.tokens);
    return { tokens: joinBackwards(parts), extras: place.extras };
  }

  protected append({ end, pages: before }: Found<Link>, { keys, extras, ids, pages }: Appended): void {
    const { pageSize } = this.pool;
    let parent = end;
    for (const [index, page] of pages.entries()) {
      const depth = before.length + index;
      const tokens = keys.slice(depth * pageSize, (depth + 1) * pageSize);
      const hash = this.#hashAfter(parent, tokens, extras);
      const link: Link = { hash, tokens, extras, parent, id: 0, page, children: 0, locks: 0 };
      link.id = this.ledger.add(ids[index], page, depth, link).id;
      const bucket = this.#links.get(hash);
      if (bucket) bucket.push(link);
      else this.#links.set(hash, [link]);
      if (parent) parent.children++;
      if (parent) this.#settle(parent);
      this.#settle(link);
      parent = link;
    }
  }

  protected readonly drop = ({ place }: LedgerEntry<Link>): void => {
    const rest = this.#links.get(place.hash)?.filter((link) => link !== place) ?? [];
    if (rest.length > 0) this.#links.set(place.hash, rest);
    else this.#links.delete(place.hash);
    if (!place.parent) return;
    place.parent.children--;
    this.#settle(place.parent);
  };

  #settle({ id, children, locks }: Link): void {
    this.ledger.setLoose(id, children === 0 && locks === 0);
  }

  #hashAfter(parent: Link | undefined, tokens: Int32Array, extras: string): number {
    return this.#hash(parent?.hash ?? rootHash(extras), tokens);
  }
}
