import {
  cast,
  fromArray,
  gatherRows,
  narrow,
  permute,
  reshape,
  scope,
  slice,
  unscoped,
  writeSlice,
  type Tensor,
} from '@filigree/core-tensor';
import type { KvCache, PageFollower, PagePool } from '@filigree/kv-cache';
import type { LayerInfo, Selector } from '@filigree/sparse-attention';

/** Pages that are brought in at a time: bounds the keys that are gathered. */
const pagesAtOnce = 64;

/**
 * What a selector keeps of one layer's keys, beside the pages of a pool and as long as they. Sequences that share pages share it; what was cached
 * without the selector is brought in before it is needed.
 */
export class SelectorState implements PageFollower {
  readonly state: unknown;
  /** Entries of every page that the state knows. */
  readonly #known: Int32Array;

  constructor(
    private readonly selector: Selector,
    private readonly pool: PagePool,
    private readonly info: LayerInfo,
  ) {
    this.state = unscoped(() => selector.init?.(info));
    this.#known = new Int32Array(pool.pages);
  }

  copied(source: number, target: number, entries: number): void {
    // What the source knows of entries that the copy will overwrite cannot be taken back: such a page begins anew.
    this.#known[target] = this.#known[source] > entries ? 0 : this.#known[source];
    if (this.#known[target] === 0) return;
    for (const tensor of this.selector.pages?.(this.state) ?? []) {
      scope(() => {
        const row = slice(tensor, [source, ...tensor.shape.slice(1).fill(0)], [1, ...tensor.shape.slice(1)]);
        writeSlice(tensor, row, { axis: 0, start: target });
      });
    }
  }

  dropped(page: number, entries: number): void {
    if (this.#known[page] > entries) this.#known[page] = 0;
  }

  dispose(): void {
    this.selector.dispose?.(this.state);
  }

  /** Brings in entries before `start` that are missing, and counts those up to `end` as known: the step appends them. */
  prepare(cache: KvCache, start: number, end: number): void {
    const { pageSize } = this.pool;
    const missing: { page: number; entries: number }[] = [];
    for (const [index, page] of cache.pages.entries()) {
      const first = index * pageSize;
      if (first >= end) break;
      const entries = Math.min(pageSize, Math.max(0, start - first));
      if (this.#known[page] < entries) missing.push({ page, entries });
      this.#known[page] = Math.max(entries, Math.min(pageSize, end - first));
    }
    const whole = missing.filter(({ entries }) => entries === pageSize).map(({ page }) => page);
    for (let at = 0; at < whole.length; at += pagesAtOnce) this.#bringIn(whole.slice(at, at + pagesAtOnce), pageSize);
    for (const { page, entries } of missing) if (entries < pageSize) this.#bringIn([page], entries);
  }

  /** Called in the step, once its keys [n, Hk, D] are in their slots. */
  append(k: Tensor, slots: Tensor): void {
    this.selector.append?.(this.state, { k, pages: this.pool.keys[this.info.layer], slots });
  }

  /** The first `entries` entries of each page, from the cache. */
  #bringIn(pages: readonly number[], entries: number): void {
    const { pageSize, backend } = this.pool;
    const { kvHeads, headDim, layer } = this.info;
    scope(() => {
      const gathered = gatherRows(this.pool.keys[layer], fromArray(backend, pages, [pages.length], 'i32'));
      const values = gathered.dtype === 'f32' ? gathered : cast(gathered, 'f32');
      const rows = reshape(permute(values, [0, 2, 1, 3]), [pages.length * pageSize, kvHeads, headDim]);
      const slots = pages.flatMap((page) => Array.from({ length: entries }, (_, entry) => page * pageSize + entry));
      // Pages that are not full come one by one.
      this.append(narrow(rows, 0, slots.length), fromArray(backend, slots, [slots.length], 'i32'));
    });
  }
}
