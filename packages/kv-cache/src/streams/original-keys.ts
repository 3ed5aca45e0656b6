import { cast, empty, fromArray, gatherRows, keep, reshape, slice, writeSlice, type Tensor } from '@filigree/core-tensor';
import { appendOp } from '../ops/append.js';
import type { PageFollower, PagePool } from '../page-pool.js';
import { flat } from './stream-rows.js';

/** What a pool knows the keys by. */
const key = 'original keys of entries';

/**
 * Keys as they were before their entries were moved, in the pages of those: a key is turned from there, so that errors of turning it, and of rounding what
 * came out, do not add up.
 */
export class OriginalKeys implements PageFollower {
  readonly #pages: Tensor;

  constructor(private readonly pool: PagePool) {
    this.#pages = keep(empty(pool.backend, pool.keys[0].shape, pool.dtype));
  }

  /** Those of a pool, if there are some. */
  static find(pool: PagePool): OriginalKeys | undefined {
    return pool.follower<OriginalKeys>(key);
  }

  static of(pool: PagePool): OriginalKeys {
    return pool.follow(key, () => new OriginalKeys(pool));
  }

  get pageBytes(): number {
    return this.#pages.bytes / this.pool.pages;
  }

  /** Copies of rows of the pool, f32 [n, 1, D]. */
  read(slots: ArrayLike<number>): Tensor {
    const rows = gatherRows(flat(this.#pages), fromArray(this.pool.backend, slots, [slots.length], 'i32'));
    return reshape(rows.dtype === 'f32' ? rows : cast(rows, 'f32'), [slots.length, 1, rows.shape[1]]);
  }

  /** Writes keys as they are now, and as they were: [n, 1, D] each. */
  write({ k, original }: { readonly k: Tensor; readonly original: Tensor }, slots: ArrayLike<number>): void {
    if (slots.length === 0) return;
    const ids = fromArray(this.pool.backend, slots, [slots.length], 'i32');
    appendOp({ keyPages: this.pool.keys[0], valuePages: this.#pages, k, v: original, slots: ids }, {});
  }

  copied(source: number, target: number): void {
    const [, heads, size, dim] = this.#pages.shape;
    const page = slice(this.#pages, [source, 0, 0, 0], [1, heads, size, dim]);
    writeSlice(this.#pages, page, { axis: 0, start: target });
    page.dispose();
  }

  dropped(): void {
    // What is no longer in use is not read.
  }

  dispose(): void {
    this.#pages.dispose();
  }
}
