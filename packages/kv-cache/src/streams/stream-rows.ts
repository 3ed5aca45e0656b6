import { cast, fromArray, gatherRows, reshape, type Tensor } from '@filigree/core-tensor';
import { appendOp } from '../ops/append.js';
import type { PagePool } from '../page-pool.js';

export interface Rows {
  readonly k: Tensor;
  readonly v: Tensor;
}

/** Rows of keys and values of a pool of pages with one head each, by slots. Called within a scope. */
export class StreamRows {
  constructor(private readonly pool: PagePool) {}

  /** Copies of rows, f32 [n, 1, D] and [n, 1, Dv]. */
  read(slots: ArrayLike<number>): Rows {
    const { keys, values } = this.pool;
    return this.some({ k: flat(keys[0]), v: flat(values[0]) }, slots);
  }

  /** Rows of k [rows, D] and v [rows, Dv] of f32 or f16, as f32 [n, 1, D] and [n, 1, Dv]. */
  some({ k, v }: Rows, rows: ArrayLike<number>): Rows {
    const ids = fromArray(this.pool.backend, rows, [rows.length], 'i32');
    const taken = (x: Tensor): Tensor => {
      const found = gatherRows(x, ids);
      return reshape(found.dtype === 'f32' ? found : cast(found, 'f32'), [rows.length, 1, x.shape[1]]);
    };
    return { k: taken(k), v: taken(v) };
  }

  /** Writes k [n, 1, D] and v [n, 1, Dv]. */
  write({ k, v }: Rows, slots: ArrayLike<number>): void {
    if (slots.length === 0) return;
    const ids = fromArray(this.pool.backend, slots, [slots.length], 'i32');
    appendOp({ keyPages: this.pool.keys[0], valuePages: this.pool.values[0], k, v, slots: ids }, {});
  }
}

/** Pages [pages, 1, P, D] as rows, one per slot. */
export function flat(pages: Tensor): Tensor {
  const [count, , size, dim] = pages.shape;
  return reshape(pages, [count * size, dim]);
}
