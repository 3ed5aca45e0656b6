import { OptionError } from '@filigree/core-tensor';
import type { CachePolicy, CacheUse } from './cache-policy.js';
import { Heap, type Ranked } from './heap.js';

/** Requests of an item so far. */
export interface Requests {
  count: number;
  /** Logarithm of the moving average of requests, scaled so that it only changes with a request: see {@link lec}. */
  average: number;
}

/** What sets one policy apart from another. */
export interface Ranking {
  readonly name: string;
  /** What goes first has the least. */
  rank(requests: Requests, use: CacheUse, clock: number): number;
  /** Priorities of what comes in grow by that of the last victim. */
  readonly ages?: boolean | undefined;
  /** What comes in must be worth more than what would go for it. */
  readonly admission?: boolean | undefined;
  /** Items that are not held whose requests are remembered. */
  readonly history?: number | undefined;
  /** Weight of the newest request in {@link Requests.average}. */
  readonly weight?: number | undefined;
}

interface Item<Id> extends Ranked {
  readonly id: Id;
  requests: Requests;
  use: CacheUse;
  pinned: boolean;
}

/** A policy that keeps what is held in a heap by a rank which only requests change. */
export class RankedPolicy<Id = number> implements CachePolicy<Id> {
  readonly #items = new Map<Id, Item<Id>>();
  readonly #heap = new Heap<Item<Id>>();
  /** Requests of items that are not held, the one that was asked for longest ago first. */
  readonly #past = new Map<Id, Requests>();
  #clock = 0;
  #serial = 0;

  constructor(private readonly ranking: Ranking) {
    const { history = 0, weight = 0.5 } = ranking;
    if (!Number.isInteger(history) || history < 0)
      throw new OptionError(`${ranking.name}: history is ${history}, it must be a non-negative integer`);
    if (!(weight > 0 && weight < 1)) throw new OptionError(`${ranking.name}: weight is ${weight}, it must lie between 0 and 1`);
  }

  get name(): string {
    return this.ranking.name;
  }

  get size(): number {
    return this.#items.size;
  }

  get clock(): number {
    return this.#clock;
  }

  touch(id: Id, use: CacheUse): void {
    checkUse(this.name, use);
    const serial = ++this.#serial;
    const item = this.#items.get(id);
    if (!item) {
      this.#remember(id, this.#asked(this.#past.get(id)));
      return;
    }
    item.requests = this.#asked(item.requests);
    item.use = use;
    this.#rank(item, serial);
  }

  admit(id: Id, use: CacheUse): boolean {
    checkUse(this.name, use);
    const first = this.#heap.first;
    if (!this.ranking.admission || !first) return true;
    return this.ranking.rank(this.#past.get(id) ?? this.#asked(undefined), use, this.#clock) > first.rank;
  }

  add(id: Id, use: CacheUse): void {
    checkUse(this.name, use);
    if (this.#items.has(id)) {
      this.touch(id, use);
      return;
    }
    const serial = ++this.#serial;
    const requests = this.#past.get(id) ?? this.#asked(undefined);
    this.#past.delete(id);
    const item: Item<Id> = { id, requests, use, pinned: false, rank: 0, serial, place: -1 };
    this.#items.set(id, item);
    this.#rank(item, serial);
  }

  has(id: Id): boolean {
    return this.#items.has(id);
  }

  victim(): Id | undefined {
    return this.#heap.first?.id;
  }

  remove(id: Id): void {
    const item = this.#items.get(id);
    if (!item) return;
    if (this.ranking.ages && item === this.#heap.first) this.#clock = Math.max(this.#clock, item.rank);
    this.#heap.take(item);
    this.#items.delete(id);
    this.#remember(id, item.requests);
  }

  pin(id: Id): void {
    const item = this.#items.get(id);
    if (!item) return;
    item.pinned = true;
    this.#heap.take(item);
  }

  unpin(id: Id): void {
    const item = this.#items.get(id);
    if (!item?.pinned) return;
    item.pinned = false;
    this.#heap.place(item);
  }

  #rank(item: Item<Id>, serial: number): void {
    item.serial = serial;
    item.rank = this.ranking.rank(item.requests, item.use, this.#clock);
    if (!item.pinned) this.#heap.place(item);
  }

  /**
   * Requests after one more. An average that decays by d with every request of anything is, after request t, a·dᵗ; all decay alike, so their order is that
   * of a, and log a is what is kept.
   */
  #asked(before: Requests | undefined): Requests {
    const { weight = 0.5 } = this.ranking;
    const share = Math.log(weight) - this.#serial * Math.log1p(-weight);
    if (!before) return { count: 1, average: share };
    const [high, low] = [Math.max(before.average, share), Math.min(before.average, share)];
    return { count: before.count + 1, average: high + Math.log1p(Math.exp(low - high)) };
  }

  #remember(id: Id, requests: Requests): void {
    const { history = 0 } = this.ranking;
    if (history === 0) return;
    this.#past.delete(id);
    this.#past.set(id, requests);
    if (this.#past.size <= history) return;
    for (const oldest of this.#past.keys()) {
      this.#past.delete(oldest);
      return;
    }
  }
}

function checkUse(name: string, { cost, bytes }: CacheUse): void {
  if (!Number.isFinite(cost) || cost < 0) throw new OptionError(`${name}: cost is ${cost}, it must be a finite number from 0`);
  if (!Number.isFinite(bytes) || bytes <= 0) throw new OptionError(`${name}: bytes is ${bytes}, it must be a positive number`);
}
