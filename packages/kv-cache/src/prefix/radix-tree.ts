import type { PagePool } from '../page-pool.js';
import { BaseIndex, type Appended, type Found } from './base-index.js';
import type { LedgerEntry } from './page-ledger.js';
import { joinBackwards } from './prefix-keys.js';
import type { PrefixIndex, PrefixIndexOptions } from './prefix-index.js';

/** An edge: a run of tokens and their pages, after those of its parent. Children begin with different pages of tokens. */
interface Run {
  parent: Run | undefined;
  tokens: Int32Array;
  pages: number[];
  ids: number[];
  readonly children: Map<string, Run>;
  locks: number;
}

/**
 * A prefix index of a radix tree: an edge holds a run of pages, and is split where prefixes part. With pages of one token it shares every token.
 *
 * Zheng et al., "SGLang: Efficient Execution of Structured Language Model Programs", arXiv:2312.07104.
 */
export function radixIndex(pool: PagePool, options: PrefixIndexOptions = {}): PrefixIndex {
  return new RadixTree(pool, options);
}

class RadixTree extends BaseIndex<Run> {
  readonly #roots = new Map<string, Run>();

  protected find(keys: Int32Array, extras: string): Found<Run> {
    const { pageSize } = this.pool;
    const [ids, pages]: [number[], number[]] = [[], []];
    let end = this.#roots.get(extras);
    while (end && (pages.length + 1) * pageSize <= keys.length) {
      const rest = keys.subarray(pages.length * pageSize);
      const child = end.children.get(this.#first(rest));
      if (!child) break;
      const same = this.#samePages(child, rest);
      // A part of an edge becomes an edge, so that a lock holds no more than what was asked for.
      end = same < child.pages.length ? this.#split(child, same) : child;
      ids.push(...end.ids);
      pages.push(...end.pages);
    }
    return { ids, pages, end: pages.length > 0 ? end : undefined };
  }

  protected lock(end: Run, by: 1 | -1): void {
    for (let run: Run | undefined = end; run; run = run.parent) {
      run.locks += by;
      this.#settle(run);
    }
  }

  protected locked({ locks }: Run): boolean {
    return locks > 0;
  }

  protected before({ depth, place }: LedgerEntry<Run>): number | undefined {
    const at = depth - (this.ledger.get(place.ids[0])?.depth ?? depth);
    return at > 0 ? place.ids[at - 1] : place.parent?.ids.at(-1);
  }

  protected keysOf({ place }: LedgerEntry<Run>): { tokens: Int32Array; extras: string } {
    const parts: Int32Array[] = [];
    let run = place;
    for (; run.parent; run = run.parent) parts.push(run.tokens);
    // The page is the last one of its run; a root has no tokens.
    return { tokens: joinBackwards(parts), extras: this.#extrasOf(run) };
  }

  protected append({ end, pages: before }: Found<Run>, { keys, extras, ids, pages }: Appended): void {
    const { pageSize } = this.pool;
    const parent = end ?? this.#roots.get(extras) ?? newRun(undefined, new Int32Array(0));
    if (!parent.parent) this.#roots.set(extras, parent);
    const start = before.length * pageSize;
    const run = newRun(parent, keys.slice(start, start + pages.length * pageSize));
    for (const [index, page] of pages.entries()) {
      run.ids.push(this.ledger.add(ids[index], page, before.length + index, run).id);
      run.pages.push(page);
    }
    parent.children.set(this.#first(run.tokens), run);
    this.#settle(parent);
    this.#settle(run);
  }

  protected readonly drop = ({ place: run }: LedgerEntry<Run>): void => {
    const first = this.#first(run.tokens);
    run.pages.pop();
    run.ids.pop();
    run.tokens = run.tokens.subarray(0, run.pages.length * this.pool.pageSize);
    if (run.pages.length > 0) {
      this.#settle(run);
      return;
    }
    const { parent } = run;
    parent?.children.delete(first);
    if (parent) this.#settle(parent);
    if (parent?.parent || parent?.children.size !== 0) return;
    for (const [extras, root] of this.#roots) if (root === parent) this.#roots.delete(extras);
  };

  #extrasOf(root: Run): string {
    for (const [extras, other] of this.#roots) if (other === root) return extras;
    return '';
  }

  /** The first `count` pages of a run as a run of their own, before it; who holds the run holds both. */
  #split(run: Run, count: number): Run {
    const cut = count * this.pool.pageSize;
    const upper = newRun(run.parent, run.tokens.slice(0, cut));
    upper.locks = run.locks;
    upper.pages = run.pages.splice(0, count);
    upper.ids = run.ids.splice(0, count);
    for (const id of upper.ids) {
      const entry = this.ledger.get(id);
      if (entry) entry.place = upper;
    }
    run.parent?.children.set(this.#first(upper.tokens), upper);
    run.tokens = run.tokens.slice(cut);
    run.parent = upper;
    upper.children.set(this.#first(run.tokens), run);
    return upper;
  }

  /** Only the last page of a run that nothing follows can go. */
  #settle({ ids, children, locks }: Run): void {
    const last = ids.at(-1);
    if (last !== undefined) this.ledger.setLoose(last, children.size === 0 && locks === 0);
  }

  #samePages({ tokens, pages }: Run, keys: Int32Array): number {
    const { pageSize } = this.pool;
    const length = Math.min(tokens.length, keys.length);
    let same = 0;
    while (same < length && tokens[same] === keys[same]) same++;
    return Math.min(pages.length, Math.floor(same / pageSize));
  }

  #first(tokens: Int32Array): string {
    return tokens.subarray(0, this.pool.pageSize).join();
  }
}

function newRun(parent: Run | undefined, tokens: Int32Array): Run {
  return { parent, tokens, pages: [], ids: [], children: new Map(), locks: 0 };
}
