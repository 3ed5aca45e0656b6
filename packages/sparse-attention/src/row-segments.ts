import type { Words } from './words.js';

/** Lists that segments come from, each of them ascending. */
const maximumLists = 4;

/**
 * Stretches of keys of one row block, some with bits, and the sweep that makes disjoint ranges of them. Flags are those of a plan's ranges: 1, every
 * query sees the keys as far as the predicates allow; f ≥ 2, those of the bits that f refers to.
 */
export class RowSegments {
  readonly #starts: number[] = [];
  readonly #ends: number[] = [];
  readonly #flags: number[] = [];
  /** Where each list ends. */
  readonly #listEnds: number[] = [];
  #count = 0;
  #withBits = false;
  #ascending = true;

  constructor(
    readonly words: number,
    readonly bits: Words,
  ) {}

  clear(): void {
    this.#count = 0;
    this.#listEnds.length = 0;
    this.#withBits = false;
    this.#ascending = true;
  }

  /** Adds keys start … end, cut to floor … limit; bits of keys move along. */
  add(start: number, end: number, flag: number, floor: number, limit: number): void {
    const [from, to] = [Math.max(start, floor), Math.min(end, limit)];
    if (to <= from) return;
    const at = this.#count++;
    if (at > this.#listStart() && this.#starts[at - 1] > from) this.#ascending = false;
    this.#starts[at] = from;
    this.#ends[at] = to;
    this.#flags[at] = flag > 1 ? this.#moved(flag, from - start) : flag;
    this.#withBits ||= flag > 1;
  }

  /** Ends a list; what comes next is another ascending one. */
  endList(): void {
    if (!this.#ascending) this.#sortList();
    this.#ascending = true;
    this.#listEnds.push(this.#count);
  }

  #listStart(): number {
    return this.#listEnds.at(-1) ?? 0;
  }

  #sortList(): void {
    const from = this.#listStart();
    const order = Array.from({ length: this.#count - from }, (_, index) => from + index).sort(
      (a, b) => this.#starts[a] - this.#starts[b],
    );
    for (const list of [this.#starts, this.#ends, this.#flags]) {
      const sorted = order.map((index) => list[index]);
      for (const [index, value] of sorted.entries()) list[from + index] = value;
    }
  }

  /** The flag of a range that starts `keys` later. */
  #moved(flag: number, keys: number): number {
    return (flag & 1) === 1 ? flag + 2 * keys * this.words : flag;
  }

  /** Whether a key lies in a stretch with bits. */
  bitsCover(key: number): boolean {
    if (!this.#withBits) return false;
    for (let index = 0; index < this.#count; index++)
      if (this.#flags[index] > 1 && key >= this.#starts[index] && key < this.#ends[index]) return true;
    return false;
  }

  /** Disjoint ranges in ascending order; touching ones without bits are one. */
  merge(emit: (start: number, end: number, flag: number) => void): void {
    const order = this.#inOrder();
    if (this.#withBits) this.#sweep(order, emit);
    else this.#union(order, emit);
  }

  /** Segments by their start: a merge of the lists. */
  #inOrder(): number[] {
    const ends = this.#listEnds;
    const next = [0, ...ends].slice(0, Math.min(ends.length, maximumLists));
    const order: number[] = [];
    for (let place = 0; place < this.#count; place++) {
      let best = -1;
      for (let list = 0; list < next.length; list++) {
        if (next[list] < ends[list] && (best < 0 || this.#starts[next[list]] < this.#starts[next[best]])) best = list;
      }
      order.push(next[best]++);
    }
    return order;
  }

  #union(order: readonly number[], emit: (start: number, end: number, flag: number) => void): void {
    let [start, end] = [0, 0];
    for (const index of order) {
      if (this.#starts[index] > end) {
        if (end > start) emit(start, end, 1);
        start = this.#starts[index];
        end = this.#ends[index];
      } else end = Math.max(end, this.#ends[index]);
    }
    if (end > start) emit(start, end, 1);
  }

  /** Stretch by stretch between the places at which a segment starts or ends. */
  #sweep(order: readonly number[], emit: (start: number, end: number, flag: number) => void): void {
    const edges = Float64Array.from(order.flatMap((index) => [this.#starts[index], this.#ends[index]])).sort();
    let open: number[] = [];
    let next = 0;
    let pending: [number, number] | undefined;
    for (let edge = 0; edge + 1 < edges.length; edge++) {
      const [start, end] = [edges[edge], edges[edge + 1]];
      if (end === start) continue;
      open = open.filter((index) => this.#ends[index] > start);
      while (next < order.length && this.#starts[order[next]] <= start) open.push(order[next++]);
      if (open.length === 0) continue;
      if (open.some((index) => this.#flags[index] === 1)) {
        if (pending?.[1] === start) pending[1] = end;
        else {
          if (pending) emit(...pending, 1);
          pending = [start, end];
        }
        continue;
      }
      if (pending) emit(...pending, 1);
      pending = undefined;
      emit(start, end, this.#joined(open, start, end));
    }
    if (pending) emit(...pending, 1);
  }

  /** Flag of the or of the bits of some segments at start … end. */
  #joined(open: readonly number[], start: number, end: number): number {
    const flags = open.map((index) => this.#moved(this.#flags[index], start - this.#starts[index]));
    if (flags.length === 1) return flags[0];
    const perKey = flags.some((flag) => (flag & 1) === 1);
    const at = this.bits.length;
    for (let key = 0; key < (perKey ? end - start : 1); key++) {
      for (let word = 0; word < this.words; word++) {
        let own = 0;
        for (const flag of flags) own |= this.bits.at(((flag - 2) >> 1) + ((flag & 1) === 1 ? key * this.words : 0) + word);
        this.bits.push(own);
      }
    }
    return 2 + 2 * at + (perKey ? 1 : 0);
  }
}
