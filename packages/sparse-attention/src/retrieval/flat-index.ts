import { BestList } from './best-list.js';
import type { Found, KeyIndex } from './key-index.js';
import { Rows } from './rows.js';

/** All keys, looked at one by one: exact. */
export class FlatIndex implements KeyIndex {
  readonly #rows: Rows;

  constructor(dim: number, keys?: Float32Array) {
    this.#rows = new Rows(dim, keys);
  }

  get size(): number {
    return this.#rows.size;
  }

  add(keys: Float32Array): void {
    this.#rows.add(keys);
  }

  search(query: Float32Array, count: number): Found {
    const { size } = this;
    const best = new BestList(Math.min(count, size));
    for (let id = 0; id < size; id++) best.offer(id, this.#rows.product(query, id));
    return { ids: best.descending(), visited: size };
  }
}
