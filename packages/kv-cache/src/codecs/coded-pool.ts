import { keep, OptionError, type Backend, type Tensor } from '@filigree/core-tensor';
import { KvCapacityError } from '../errors.js';
import type { KvLayerSpec } from '../page-pool.js';
import type { CodedKvCodec } from './coded-codec.js';

export interface CodedPoolOptions {
  readonly layers: readonly KvLayerSpec[];
  readonly pages: number;
  readonly pageSize: number;
  readonly codec: { readonly k: CodedKvCodec; readonly v: CodedKvCodec };
}

/** Reference-counted pages of codes for every layer. A page is written once, as a whole, and then only read. */
export class CodedPool {
  /** Per layer u8 [pages, Hk, bytes]. */
  readonly keys: readonly Tensor[];
  readonly values: readonly Tensor[];
  /** Bytes of one page over all layers. */
  readonly pageBytes: number;
  readonly #references: Int32Array;
  readonly #free: number[];
  #owners = 1;

  constructor(backend: Backend, { layers, pages, pageSize, codec }: CodedPoolOptions) {
    if (layers.some(({ kHeads, vHeads }) => kHeads !== vHeads))
      throw new OptionError('CodedPool: layers have as many heads of keys as of values');
    this.keys = layers.map(({ kHeads: heads, kDim: dim }) =>
      keep(codec.k.allocate(backend, 'keys', { pages, heads, pageSize, dim })),
    );
    this.values = layers.map(({ vHeads: heads, vDim: dim }) =>
      keep(codec.v.allocate(backend, 'values', { pages, heads, pageSize, dim })),
    );
    this.pageBytes = [...this.keys, ...this.values].reduce((sum, tensor) => sum + tensor.bytes, 0) / Math.max(1, pages);
    this.#references = new Int32Array(pages);
    this.#free = Array.from({ length: pages }, (_, index) => pages - 1 - index);
  }

  /** @throws KvCapacityError unless `count` pages are free. */
  expectFree(count: number): void {
    if (count > this.#free.length)
      throw new KvCapacityError(
        `the coded pages are full: ${count} more are needed, ${this.#free.length} of ${this.#references.length} are free; make the cache with a larger capacity`,
      );
  }

  take(): number {
    this.expectFree(1);
    const page = this.#free.pop() ?? 0;
    this.#references[page] = 1;
    return page;
  }

  retain(page: number): void {
    this.#references[page]++;
  }

  release(page: number): void {
    this.#references[page]--;
    if (this.#references[page] === 0) this.#free.push(page);
  }

  shared(page: number): boolean {
    return this.#references[page] > 1;
  }

  join(): this {
    this.#owners++;
    return this;
  }

  /** The memory goes back with the last one. */
  leave(): void {
    this.#owners--;
    if (this.#owners > 0) return;
    for (const tensor of [...this.keys, ...this.values]) tensor.dispose();
  }
}
