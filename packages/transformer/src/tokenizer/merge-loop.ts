/** What may be merged: the pairs of neighbouring symbols that form a token, and in which order. */
export interface MergeTable {
  /**
   * Looks at two neighbouring symbols, `text[start, middle)` and `text[middle, end)`, which are the tokens `left` and `right` (-1: none).
   * Returns the rank of their merge, lower first, and sets {@link merged}; -1 where they do not merge.
   */
  rank(text: Uint8Array, start: number, middle: number, end: number, left: number, right: number): number;
  /** The token that the last pair with a rank forms. */
  readonly merged: number;
  readonly byteLength: number;
}

/** Symbols of a text at which a working copy is not kept for the next one. */
const keptSymbols = 1 << 16;

/**
 * Merges neighbouring symbols, the pair of the lowest rank first and of equal ones the leftmost, until none is left: O(n log n) for any
 * text. Ranks are below 2^22, symbols below 2^31.
 */
export class MergeLoop {
  /** Where each symbol starts in the text; `ids` are its tokens, -1 for none. Filled by the caller. */
  starts = new Int32Array(64);
  ids = new Int32Array(64);
  #next = new Int32Array(64);
  #previous = new Int32Array(64);
  #ranks = new Int32Array(64);
  #merged = new Int32Array(64);
  /** A binary heap of rank · 2^31 + symbol. Entries that are no longer true are skipped when they come up. */
  #heap: number[] = [];

  /** Makes room for `count` symbols. */
  reserve(count: number): void {
    if (count <= this.starts.length && (this.starts.length <= keptSymbols || count > keptSymbols)) return;
    const length = Math.max(64, 2 ** Math.ceil(Math.log2(count)));
    this.starts = new Int32Array(length);
    this.ids = new Int32Array(length);
    this.#next = new Int32Array(length);
    this.#previous = new Int32Array(length);
    this.#ranks = new Int32Array(length);
    this.#merged = new Int32Array(length);
    this.#heap = [];
  }

  /**
   * Merges the first `count` symbols, which end at `end` of the text, and calls `onSymbol` for each one that remains.
   */
  run(
    table: MergeTable,
    text: Uint8Array,
    count: number,
    end: number,
    onSymbol: (token: number, start: number, end: number) => void,
  ): void {
    for (let symbol = 0; symbol < count; symbol++) {
      this.#next[symbol] = symbol + 1 < count ? symbol + 1 : -1;
      this.#previous[symbol] = symbol - 1;
    }
    for (let symbol = 0; symbol < count; symbol++) this.#consider(table, text, symbol, end);
    for (let key = this.#pop(); key >= 0; key = this.#pop()) {
      const rank = Math.floor(key / symbols);
      const symbol = key - rank * symbols;
      if (this.#ranks[symbol] !== rank) continue;
      this.#merge(symbol);
      this.#consider(table, text, symbol, end);
      const before = this.#previous[symbol];
      if (before >= 0) this.#consider(table, text, before, end);
    }
    for (let symbol = count > 0 ? 0 : -1; symbol >= 0;) {
      const next = this.#next[symbol];
      onSymbol(this.ids[symbol], this.starts[symbol], next >= 0 ? this.starts[next] : end);
      symbol = next;
    }
  }

  /** Looks at the pair that begins with a symbol. */
  #consider(table: MergeTable, text: Uint8Array, symbol: number, end: number): void {
    const right = this.#next[symbol];
    this.#ranks[symbol] = -1;
    if (right < 0) return;
    const after = this.#next[right];
    const stop = after >= 0 ? this.starts[after] : end;
    const rank = table.rank(text, this.starts[symbol], this.starts[right], stop, this.ids[symbol], this.ids[right]);
    if (rank < 0) return;
    this.#ranks[symbol] = rank;
    this.#merged[symbol] = table.merged;
    this.#push(rank * symbols + symbol);
  }

  /** Joins a symbol with the next one. */
  #merge(symbol: number): void {
    const right = this.#next[symbol];
    const after = this.#next[right];
    this.ids[symbol] = this.#merged[symbol];
    this.#ranks[right] = -1;
    this.#next[symbol] = after;
    if (after >= 0) this.#previous[after] = symbol;
  }

  #push(key: number): void {
    const heap = this.#heap;
    let index = heap.push(key) - 1;
    while (index > 0) {
      const parent = (index - 1) >> 1;
      const above = heap[parent];
      if (above <= key) break;
      heap[index] = above;
      index = parent;
    }
    heap[index] = key;
  }

  /** The smallest key, taken out; -1 when there is none. */
  #pop(): number {
    const heap = this.#heap;
    const top = heap[0] ?? -1;
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return top;
    let index = 0;
    for (;;) {
      let child = 2 * index + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && heap[child + 1] < heap[child]) child++;
      const below = heap[child];
      if (below >= last) break;
      heap[index] = below;
      index = child;
    }
    heap[index] = last;
    return top;
  }
}

const symbols = 2 ** 31;
