/** What it takes to have an item: work to make it again, and room to keep it. */
export interface CacheUse {
  readonly cost: number;
  readonly bytes: number;
}

/**
 * Which of the items that are held goes next. A policy holds nothing itself: whoever does tells it of requests, of what comes in and of what
 * goes. Equal items go by their oldest touch, so that the same requests always give the same victims. Every call takes O(log n).
 */
export interface CachePolicy<Id = number> {
  /** `lru`, `lfu`, `gdsf`, `lec`. */
  readonly name: string;
  /** Items held, pinned ones included. */
  readonly size: number;
  /** Inflation of priorities, which never falls; 0 where a policy does not age. */
  readonly clock: number;
  /** A request of an item, held or not. @throws OptionError unless cost is finite and ≥ 0, and bytes finite and positive. */
  touch(id: Id, use: CacheUse): void;
  /** Whether an item that is not held is worth more than the one that would go for it. */
  admit(id: Id, use: CacheUse): boolean;
  /** The item is held from now on. It keeps the requests that led to it. */
  add(id: Id, use: CacheUse): void;
  has(id: Id): boolean;
  /** What would go next; it stays until {@link remove}. Undefined when everything is pinned. */
  victim(): Id | undefined;
  /** The item is no longer held. Policies that age do so when it was the victim. */
  remove(id: Id): void;
  /** The item is no victim until {@link unpin}; requests of it still count. */
  pin(id: Id): void;
  unpin(id: Id): void;
}
