import type { BlockMask, MaskShape } from './mask.js';

/** Queries per row block: as many as the executors take at once, unless a pattern wants fewer. */
const blockQ = 16;

/** Where a query stands. */
export interface QueryPlace {
  readonly position: number;
  readonly lenK: number;
  /** Positions that the prompt has, of which this step may be a chunk; when decoding, all that are cached. */
  readonly promptEnd: number;
  /** Mask head. */
  readonly mask: number;
}

/** Half-open ranges of keys that a query sees, in any order; what lies outside of the keys, or is hidden by causality, is cut off. */
export type KeyRanges = (place: QueryPlace) => readonly (readonly [number, number])[];

export interface CellPatternOptions {
  /** Default true. */
  readonly causal?: boolean;
  /** Distinct masks; query head h has mask h mod masks. Default 1. */
  readonly masks?: number;
}

/**
 * The mask of a pattern that is given query by query. Exact, whatever the queries of a chunk are: keys that only some queries of a row block
 * see carry row bits.
 *
 * O(ranges log ranges) work per row block, and one word per key that only part of its queries sees.
 */
export function cellPattern(shape: MaskShape, ranges: KeyRanges, options: CellPatternOptions = {}): BlockMask {
  const { causal = true, masks = 1 } = options;
  const rowsPer = Math.ceil(Math.max(0, ...shape.lenQ) / blockQ);
  const qOffset = shape.qOffset ?? shape.lenK.map((length, index) => length - shape.lenQ[index]);
  const rows = new RowLists();
  for (let batch = 0; batch < shape.batch; batch++) {
    const lenK = shape.lenK[batch];
    const end = qOffset[batch] + shape.lenQ[batch];
    const promptEnd = shape.promptEnd?.[batch] ?? end;
    for (let mask = 0; mask < masks; mask++) {
      for (let row = 0; row < rowsPer; row++) {
        const first = qOffset[batch] + row * blockQ;
        const count = Math.max(0, Math.min(end - first, blockQ));
        const edges = new Edges(first, count, lenK, causal);
        for (let query = 0; query < count; query++)
          edges.add(query, ranges({ position: first + query, lenK, promptEnd, mask }));
        edges.sweep(rows);
        rows.endRow();
      }
    }
  }
  return {
    batch: shape.batch,
    maskHeads: masks,
    headMap: Int32Array.from({ length: shape.heads }, (_, head) => head % masks),
    lenQ: Int32Array.from(shape.lenQ),
    lenK: Int32Array.from(shape.lenK),
    qOffset: Int32Array.from(qOffset),
    blockQ,
    blockK: 64,
    causal,
    window: 0,
    rowPtr: new Int32Array(shape.batch * masks * rowsPer + 1),
    colIdx: new Int32Array(0),
    ...rows.lists(),
  };
}

/** Where queries of a row block begin and cease to see keys. */
class Edges {
  readonly #first: number;
  readonly #count: number;
  readonly #lenK: number;
  readonly #causal: boolean;
  /** Key · 32 + query; 31 for an edge at which nobody's view changes. */
  readonly #edges: number[] = [];

  constructor(first: number, count: number, lenK: number, causal: boolean) {
    this.#first = first;
    this.#count = count;
    this.#lenK = lenK;
    this.#causal = causal;
    // From here on, keys are hidden from one query more; what all others see is no exception.
    if (causal) for (let query = 0; query <= count; query++) this.#edges.push(32 * (first + query) + 31);
  }

  add(query: number, ranges: readonly (readonly [number, number])[]): void {
    const limit = this.#causal ? Math.min(this.#lenK, this.#first + query + 1) : this.#lenK;
    let [open, close] = [-1, -1];
    for (const [start, end] of [...ranges].sort((a, b) => a[0] - b[0])) {
      const [from, to] = [Math.max(0, start), Math.min(end, limit)];
      if (to <= from) continue;
      if (from > close) {
        this.#toggle(query, open, close);
        [open, close] = [from, to];
      } else close = Math.max(close, to);
    }
    this.#toggle(query, open, close);
  }

  #toggle(query: number, start: number, end: number): void {
    if (end > start) this.#edges.push(32 * start + query, 32 * end + query);
  }

  /** Stretches of keys between edges, with the queries that see them. */
  sweep(rows: RowLists): void {
    const edges = Float64Array.from(this.#edges).sort();
    let seen = 0;
    for (let index = 0; index < edges.length; index++) {
      const [key, query] = [Math.floor(edges[index] / 32), edges[index] % 32];
      if (query < 31) seen ^= 1 << query;
      const end = index + 1 < edges.length ? Math.floor(edges[index + 1] / 32) : key;
      if (end > key && seen !== 0) rows.add(key, end, seen, seen === this.#possible(key));
    }
  }

  /** Queries from which causality does not hide the key. */
  #possible(key: number): number {
    const all = 2 ** this.#count - 1;
    return this.#causal && key > this.#first ? all - (2 ** (key - this.#first) - 1) : all;
  }
}

/** Keys of the longest stretch whose bits are written once per key, so that it joins its neighbours. */
const joined = 16;

/** Ranges, bits and columns of one row block after another. */
class RowLists {
  readonly #rangePtr = [0];
  readonly #ranges: number[] = [];
  readonly #rangeFlags: number[] = [];
  readonly #bits: number[] = [];
  readonly #colPtr = [0];
  readonly #cols: number[] = [];

  add(start: number, end: number, seen: number, everyone: boolean): void {
    const last = this.#rangeFlags.length - 1;
    const touches = last >= this.#rangePtr[this.#rangePtr.length - 1] && this.#ranges[2 * last + 1] === start;
    if (everyone) {
      if (touches && this.#rangeFlags[last] === 1) this.#ranges[2 * last + 1] = end;
      else this.#push(start, end, 1);
    } else if (end - start > joined) {
      this.#push(start, end, 2 + 2 * this.#bits.length);
      this.#bits.push(seen);
    } else {
      if (touches && this.#rangeFlags[last] % 2 === 1 && this.#rangeFlags[last] > 1) this.#ranges[2 * last + 1] = end;
      else this.#push(start, end, 3 + 2 * this.#bits.length);
      for (let key = start; key < end; key++) this.#bits.push(seen);
    }
  }

  #push(start: number, end: number, flag: number): void {
    this.#ranges.push(start, end);
    this.#rangeFlags.push(flag);
  }

  /** Ends a row block; its single keys that all queries see become columns. */
  endRow(): void {
    const begin = this.#rangePtr[this.#rangePtr.length - 1];
    const rows = this.#rangeFlags.splice(begin).map((flag, index) => {
      const at = 2 * (begin + index);
      return { start: this.#ranges[at], end: this.#ranges[at + 1], flag };
    });
    this.#ranges.length = 2 * begin;
    for (const { start, end, flag } of rows) {
      if (flag === 1 && end === start + 1) this.#cols.push(start);
      else this.#push(start, end, flag);
    }
    this.#rangePtr.push(this.#rangeFlags.length);
    this.#colPtr.push(this.#cols.length);
  }

  lists(): Pick<BlockMask, 'rangePtr' | 'ranges' | 'rangeFlags' | 'bits' | 'colPtr' | 'cols'> {
    return {
      rangePtr: Int32Array.from(this.#rangePtr),
      ranges: Int32Array.from(this.#ranges),
      rangeFlags: Int32Array.from(this.#rangeFlags),
      bits: Uint32Array.from(this.#bits),
      colPtr: Int32Array.from(this.#colPtr),
      cols: Int32Array.from(this.#cols),
    };
  }
}
