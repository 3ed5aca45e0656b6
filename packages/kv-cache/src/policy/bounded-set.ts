import { OptionError } from '@filigree/core-tensor';
import type { CachePolicy, CacheUse } from './cache-policy.js';

/** What a request led to. */
export interface BoundedRequest<Id> {
  /** Whether the item was held. */
  readonly hit: boolean;
  /** Whether it is held now. */
  readonly held: boolean;
  /** What went for it. */
  readonly evicted: readonly Id[];
}

/** Items of at most `capacity` bytes together; a policy says which stay. */
export class BoundedSet<Id = number> {
  readonly #bytes = new Map<Id, number>();
  #used = 0;

  constructor(
    readonly policy: CachePolicy<Id>,
    readonly capacity: number,
  ) {
    if (!(capacity > 0)) throw new OptionError(`BoundedSet: capacity is ${capacity}, it must be a positive number of bytes`);
  }

  /** Bytes of the items held. */
  get bytes(): number {
    return this.#used;
  }

  get size(): number {
    return this.#bytes.size;
  }

  has(id: Id): boolean {
    return this.#bytes.has(id);
  }

  /** Asks for an item, which comes in if it is worth more than all that would go for it. */
  request(id: Id, use: CacheUse): BoundedRequest<Id> {
    this.policy.touch(id, use);
    const before = this.#bytes.get(id);
    if (before === use.bytes) return { hit: true, held: true, evicted: [] };
    // An item that has changed its size is held anew.
    if (before !== undefined) this.delete(id);
    const evicted = this.#victims(id, use);
    if (!evicted) return { hit: before !== undefined, held: false, evicted: [] };
    for (const victim of evicted) this.delete(victim);
    this.policy.add(id, use);
    this.#bytes.set(id, use.bytes);
    this.#used += use.bytes;
    return { hit: before !== undefined, held: true, evicted };
  }

  /** Drops an item; whether it was held. */
  delete(id: Id): boolean {
    const bytes = this.#bytes.get(id);
    if (bytes === undefined) return false;
    this.#bytes.delete(id);
    this.#used -= bytes;
    this.policy.remove(id);
    return true;
  }

  /** What must go for an item, undefined if it is not to come in. Nothing changes yet. */
  #victims(id: Id, use: CacheUse): Id[] | undefined {
    if (use.bytes > this.capacity) return undefined;
    const found: Id[] = [];
    let free = this.capacity - this.#used;
    let enough = true;
    while (enough && free < use.bytes) {
      const victim = this.policy.victim();
      enough = victim !== undefined && this.policy.admit(id, use);
      if (!enough || victim === undefined) break;
      free += this.#bytes.get(victim) ?? 0;
      this.policy.pin(victim);
      found.push(victim);
    }
    for (const victim of found) this.policy.unpin(victim);
    return enough ? found : undefined;
  }
}
