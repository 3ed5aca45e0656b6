import { BestList } from './best-list.js';
import type { Found, KeyIndex } from './key-index.js';
import { Rows } from './rows.js';

export interface IvfOptions {
  /** Lists that keys are put into; default √size. */
  readonly lists?: number | undefined;
  /** Lists that a search looks at, at least; more when they hold too few keys. Default an eighth of the lists. */
  readonly probes?: number | undefined;
}

const rounds = 6;

/**
 * Keys in lists around centroids, of which a search looks at those with the greatest products. Centroids are means (Lloyd) of the keys that the index began
 * with; later keys join the nearest.
 */
export class IvfIndex implements KeyIndex {
  readonly #rows: Rows;
  readonly #centroids: Rows;
  readonly #lists: number[][];
  readonly #probes: number;

  constructor(dim: number, keys: Float32Array, { lists, probes }: IvfOptions = {}) {
    this.#rows = new Rows(dim, keys);
    const { size } = this.#rows;
    const count = Math.max(1, Math.min(size, lists ?? Math.round(Math.sqrt(size))));
    this.#probes = probes ?? Math.ceil(count / 8);
    this.#centroids = new Rows(dim, spread(this.#rows, count));
    for (let round = 0; round < rounds; round++) this.#toMeans(this.#assigned(0));
    this.#lists = this.#assigned(0);
  }

  get size(): number {
    return this.#rows.size;
  }

  add(keys: Float32Array): void {
    const { size } = this;
    this.#rows.add(keys);
    for (const [list, ids] of this.#assigned(size).entries()) this.#lists[list].push(...ids);
  }

  search(query: Float32Array, count: number): Found {
    const { size } = this;
    const wanted = Math.min(count, size);
    const lists = this.#lists.length;
    const order = new BestList(lists);
    for (let list = 0; list < lists; list++) order.offer(list, this.#centroids.product(query, list));
    const best = new BestList(wanted);
    let visited = 0;
    for (const [rank, list] of order.descending().entries()) {
      if (rank >= this.#probes && visited >= wanted) break;
      for (const id of this.#lists[list]) best.offer(id, this.#rows.product(query, id));
      visited += this.#lists[list].length;
    }
    return { ids: best.descending(), visited: visited + lists };
  }

  /** Keys from `first` on, by their nearest centroid. */
  #assigned(first: number): number[][] {
    const lists = Array.from({ length: this.#centroids.size }, (): number[] => []);
    const norms = lists.map((_, list) => this.#centroids.row(list).reduce((sum, value) => sum + value * value, 0) / 2);
    for (let id = first; id < this.#rows.size; id++) {
      const key = this.#rows.row(id);
      let [nearest, most] = [0, -Infinity];
      for (let list = 0; list < lists.length; list++) {
        const closeness = this.#centroids.product(key, list) - norms[list];
        if (closeness > most) [nearest, most] = [list, closeness];
      }
      lists[nearest].push(id);
    }
    return lists;
  }

  #toMeans(lists: readonly (readonly number[])[]): void {
    for (const [list, ids] of lists.entries()) {
      if (ids.length === 0) continue;
      const mean = this.#centroids.row(list).fill(0);
      for (const id of ids) {
        const key = this.#rows.row(id);
        for (let channel = 0; channel < mean.length; channel++) mean[channel] += key[channel] / ids.length;
      }
    }
  }
}

/** So many rows at equal distances in order. */
function spread(rows: Rows, count: number): Float32Array {
  const chosen = new Float32Array(count * rows.dim);
  if (rows.size === 0) return chosen;
  for (let index = 0; index < count; index++) chosen.set(rows.row(Math.floor((index * rows.size) / count)), index * rows.dim);
  return chosen;
}
