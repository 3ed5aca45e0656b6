import { BestList } from './best-list.js';
import type { Found, KeyIndex } from './key-index.js';
import { Rows } from './rows.js';

export interface GraphOptions {
  /** Neighbours of a key that are chosen for it; default 32. A few more keep every key within reach. */
  readonly degree?: number | undefined;
  /** Keys that a search goes on from: more find more and look at more. Never fewer than are searched for. Default 128. */
  readonly ef?: number | undefined;
}

/**
 * Keys as nodes of a graph, searched best first from one of them. The queries that it is built from decide which keys are neighbours: those that matter to the same queries.
 * Queries and keys of attention are distributed differently, so that neighbours among keys lead away from what queries want.
 *
 * After RetrievalAttention (Liu et al., arXiv:2409.10516) and the projection of a graph between queries and keys of RoarGraph (Chen et al., arXiv:2408.08933). The rule for neighbours is
 * ours: of the keys on the lists of the 2 · `degree` best keys of the same queries, those on most of them. Keys that cannot be reached hang on the key that is best for them.
 * Without queries, neighbours are the nearest keys, but those nearer to one already chosen. Building looks at every key for every query.
 */
export class GraphIndex implements KeyIndex {
  readonly #rows: Rows;
  readonly #neighbours: number[][] = [];
  readonly #degree: number;
  readonly #ef: number;
  /** Where searches begin. */
  #entry = 0;
  /** Search in which a key was seen last. */
  #seen = new Int32Array(0);
  #searches = 0;

  /** @param queries [m, dim], as those that will be searched for. */
  constructor(dim: number, keys: Float32Array, queries?: Float32Array, { degree = 32, ef = 128 }: GraphOptions = {}) {
    this.#rows = new Rows(dim, keys);
    this.#degree = degree;
    this.#ef = ef;
    this.#extend();
    if (queries) this.#project(new Rows(dim, queries));
    else this.#nearest();
    this.#connect();
  }

  get size(): number {
    return this.#rows.size;
  }

  /** New keys are linked with the best that the graph knows for them, in both directions. */
  add(keys: Float32Array): void {
    const first = this.size;
    this.#rows.add(keys);
    this.#extend();
    for (let id = Math.max(1, first); id < this.size; id++)
      this.#link(id, this.#best(this.#rows.row(id), this.#degree, { end: id, ef: this.#ef }).ids);
  }

  /** @param ef keys that the search goes on from. */
  search(query: Float32Array, count: number, ef = this.#ef): Found {
    return this.#best(query, Math.min(count, this.size), { end: this.size, ef });
  }

  /** Best first among the keys before `end`. */
  #best(query: Float32Array, count: number, { end, ef }: { readonly end: number; readonly ef: number }): Found {
    if (count >= end) return this.#all(query, end, end);
    const seen = this.#seen;
    const search = ++this.#searches;
    const best = new BestList(Math.max(ef, count));
    const open = new OpenKeys();
    let visited = 0;
    const visit = (id: number): void => {
      if (id >= end || seen[id] === search) return;
      seen[id] = search;
      visited++;
      const product = this.#rows.product(query, id);
      if (best.offer(id, product)) open.push(id, product);
    };
    visit(this.#entry);
    for (let next = open.pop(); next && next.score >= best.threshold; next = open.pop())
      for (const id of this.#neighbours[next.id]) visit(id);
    return { ids: best.descending().subarray(0, count), visited };
  }

  #all(query: Float32Array, count: number, end: number): Found {
    const best = new BestList(Math.min(count, end));
    for (let id = 0; id < end; id++) best.offer(id, this.#rows.product(query, id));
    return { ids: best.descending(), visited: end };
  }

  #extend(): void {
    while (this.#neighbours.length < this.size) this.#neighbours.push([]);
    const seen = new Int32Array(this.size);
    seen.set(this.#seen);
    this.#seen = seen;
  }

  /** Links the keys that matter to the same query, those that share most queries first, and begins at the one that is best for most. */
  #project(queries: Rows): void {
    const shared = this.#neighbours.map(() => new Map<number, number>());
    const firsts = new Int32Array(this.size);
    for (let query = 0; query < queries.size; query++) {
      const { ids } = this.#all(queries.row(query), 2 * this.#degree, this.size);
      if (ids.length > 0) firsts[ids[0]]++;
      for (const id of ids) for (const other of ids) if (other !== id) shared[id].set(other, (shared[id].get(other) ?? 0) + 1);
    }
    this.#entry = firsts.reduce((most, count, id) => (count > firsts[most] ? id : most), 0);
    for (const [id, own] of shared.entries()) {
      const order = [...own].sort(([a, few], [b, many]) => many - few || a - b);
      this.#neighbours[id] = order.slice(0, this.#degree).map(([other]) => other);
    }
  }

  #nearest(): void {
    for (let id = 0; id < this.size; id++) {
      const near = new BestList(2 * this.#degree);
      for (let other = 0; other < this.size; other++) if (other !== id) near.offer(other, -this.#rows.distance(id, other));
      this.#neighbours[id] = this.#chosen(id, [...near.descending()]);
    }
  }

  /** Candidates, nearest first, without those that are nearer to one already chosen than to the key. */
  #chosen(id: number, candidates: readonly number[]): number[] {
    const distances = new Map(candidates.map((other) => [other, this.#rows.distance(id, other)]));
    const order = [...distances].sort(([a, near], [b, far]) => near - far || a - b);
    const chosen: number[] = [];
    for (const [other, distance] of order) {
      if (chosen.length >= this.#degree) break;
      if (other !== id && chosen.every((own) => this.#rows.distance(own, other) >= distance)) chosen.push(other);
    }
    return chosen;
  }

  /** Links every key that cannot be reached with the one that is best for it among those that can. */
  #connect(): void {
    const reached = this.#reached();
    for (let id = 0; id < this.size; id++) {
      if (reached[id] === 1) continue;
      const { ids } = this.search(this.#rows.row(id), Math.min(this.#degree, this.size - 1));
      const from = ids.find((other) => other !== id && reached[other] === 1) ?? this.#entry;
      this.#neighbours[from].push(id);
      this.#neighbours[id].push(from);
      this.#mark(id, reached);
    }
  }

  #reached(): Uint8Array {
    const reached = new Uint8Array(this.size);
    if (this.size > 0) this.#mark(this.#entry, reached);
    return reached;
  }

  #mark(from: number, reached: Uint8Array): void {
    const open = [from];
    reached[from] = 1;
    for (let id = open.pop(); id !== undefined; id = open.pop()) {
      for (const other of this.#neighbours[id]) {
        if (reached[other] === 1) continue;
        reached[other] = 1;
        open.push(other);
      }
    }
  }

  #link(id: number, found: Int32Array): void {
    this.#neighbours[id] = this.#chosen(id, [...found]);
    for (const other of this.#neighbours[id]) this.#neighbours[other].push(id);
  }
}

/** Keys to go on from, best first. */
class OpenKeys {
  readonly #heap: { readonly id: number; readonly score: number }[] = [];

  push(id: number, score: number): void {
    const heap = this.#heap;
    const entry = { id, score };
    let place = heap.push(entry) - 1;
    while (place > 0) {
      const parent = (place - 1) >> 1;
      if (heap[parent].score >= score) break;
      heap[place] = heap[parent];
      place = parent;
    }
    heap[place] = entry;
  }

  pop(): { readonly id: number; readonly score: number } | undefined {
    const heap = this.#heap;
    const [top] = heap;
    const last = heap.pop();
    if (!last || heap.length === 0) return last;
    let place = 0;
    for (;;) {
      let child = 2 * place + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && heap[child + 1].score > heap[child].score) child++;
      if (heap[child].score <= last.score) break;
      heap[place] = heap[child];
      place = child;
    }
    heap[place] = last;
    return top;
  }
}
