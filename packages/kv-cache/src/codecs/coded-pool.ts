import { keep, OptionError, type Backend, type Tensor } from '@filigree/core-tensor';
import { KvCapacityError } from '../errors.js';
import type { KvLayerSpec } from '../page-pool.js';
import { PageReferences } from '../page-references.js';
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
  readonly pages: number;
  /** Bytes of one page over all layers. */
  readonly pageBytes: number;
  readonly #references: PageReferences;
  #owners = 1;

  constructor(backend: Backend, { layers, pages, pageSize, codec }: CodedPoolOptions) {
    if (layers.some(({ kHeads, vHeads }) => kHeads !== vHeads))
      throw new OptionError('CodedPool: layers have as many heads of keys as of values');
    this.pages = pages;
    this.keys = layers.map(({ kHeads: heads, kDim: dim }) =>
      keep(codec.k.allocate(backend, 'keys', { pages, heads, pageSize, dim })),
    );
    this.values = layers.map(({ vHeads: heads, vDim: dim }) =>
      keep(codec.v.allocate(backend, 'values', { pages, heads, pageSize, dim })),
    );
    this.pageBytes = [...this.keys, ...this.values].reduce((sum, tensor) => sum + tensor.bytes, 0) / Math.max(1, pages);
    this.#references = new PageReferences(pages);
  }

  /** @throws KvCapacityError unless `count` pages are free. */
  expectFree(count: number): void {
    const { free } = this.#references;
    if (count > free)
      throw new KvCapacityError(
        `the coded pages are full: ${count} more are needed, ${free} of ${this.pages} are free; make the cache with a larger capacity`,
      );
  }

  take(): number {
    this.expectFree(1);
    return this.#references.take();
  }

  retain(page: number): void {
    this.#references.retain(page);
  }

  release(page: number): void {
    this.#references.release(page);
  }

  shared(page: number): boolean {
    return this.#references.count(page) > 1;
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
