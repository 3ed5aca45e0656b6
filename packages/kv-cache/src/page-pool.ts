import { empty, keep, OptionError, slice, writeSlice, type Backend, type KvCodec, type Tensor } from '@filigree/core-tensor';
import { rawCodec, type RawKvType } from './codec.js';
import { KvCapacityError } from './errors.js';
import { PageReferences } from './page-references.js';

/** Keys and values of one layer; they may differ between layers, channels also between keys and values. */
export interface KvLayerSpec {
  readonly kHeads: number;
  /** Equal to `kHeads`; executors read both under one head index. */
  readonly vHeads: number;
  readonly kDim: number;
  readonly vDim: number;
  /** What the rows of K contain. Default and only value: rotated keys, stored as attention reads them. */
  readonly kStore?: 'post-rope' | undefined;
}

export interface PagePoolOptions {
  readonly layers: readonly KvLayerSpec[];
  /** Entries all caches on this pool can hold together, rounded up to whole pages. */
  readonly capacity: number;
  /** Entries per page; default 64. */
  readonly pageSize?: number | undefined;
  /** Default f32. */
  readonly dtype?: RawKvType | undefined;
}

/** Data of others with a row for every page, told what becomes of pages. */
export interface PageFollower {
  /** The first `entries` entries of `source` were copied into `target`, which was free. */
  copied(source: number, target: number, entries: number): void;
  /** Entries from `entries` on are no longer in use; 0: the page is free. */
  dropped(page: number, entries: number): void;
  /** `pages` more pages are needed than are free: gives back some that only it holds, if it has any. */
  reclaim?(pages: number): void;
  /** The pool's memory goes back. */
  dispose(): void;
}

/**
 * Reference-counted pages of keys and values for every layer. The memory is reserved once, so that appending never moves what is there;
 * caches that fork share pages until one of them writes.
 */
export class PagePool {
  readonly backend: Backend;
  readonly layers: readonly KvLayerSpec[];
  readonly pageSize: number;
  readonly pages: number;
  readonly dtype: RawKvType;
  readonly codec: KvCodec;
  /** Per layer [pages, Hk, pageSize, D]. */
  readonly keys: readonly Tensor[];
  readonly values: readonly Tensor[];
  readonly #references: PageReferences;
  readonly #followers = new Map<unknown, PageFollower>();
  #owners = 1;

  constructor(backend: Backend, { layers, capacity, pageSize = 64, dtype = 'f32' }: PagePoolOptions) {
    if (!Number.isInteger(capacity) || capacity < 1)
      throw new OptionError(`PagePool: capacity is ${capacity}, it must be a positive integer`);
    if (!Number.isInteger(pageSize) || pageSize < 1)
      throw new OptionError(`PagePool: pageSize is ${pageSize}, it must be a positive integer`);
    checkLayers(layers, dtype);
    this.backend = backend;
    this.layers = layers;
    this.pageSize = pageSize;
    this.pages = Math.ceil(capacity / pageSize);
    this.dtype = dtype;
    this.codec = rawCodec(dtype);
    // The pool outlives the scope it is made in; `leave` gives the memory back.
    const pagesOf = (heads: number, dim: number): Tensor => keep(empty(backend, [this.pages, heads, pageSize, dim], dtype));
    this.keys = layers.map(({ kHeads, kDim }) => pagesOf(kHeads, kDim));
    this.values = layers.map(({ vHeads, vDim }) => pagesOf(vHeads, vDim));
    this.#references = new PageReferences(this.pages);
  }

  /** Bytes of one page over all layers. */
  get pageBytes(): number {
    const { bytesPerEntry } = this.codec;
    return this.layers.reduce(
      (sum, { kHeads, vHeads, kDim, vDim }) =>
        sum + this.pageSize * (kHeads * bytesPerEntry(kDim) + vHeads * bytesPerEntry(vDim)),
      0,
    );
  }

  /** Bytes reserved for all pages. */
  get bytes(): number {
    return this.pages * this.pageBytes;
  }

  get freePages(): number {
    return this.#references.free;
  }

  /** Asks followers for pages that nobody uses when too few are free. @throws KvCapacityError unless `count` pages are free then. */
  expectFree(count: number): void {
    for (const follower of this.#followers.values()) {
      if (count <= this.#references.free) return;
      follower.reclaim?.(count - this.#references.free);
    }
    if (count <= this.#references.free) return;
    throw new KvCapacityError(
      `the key-value cache is full: ${count} more pages are needed, ${this.#references.free} of ${this.pages} (${this.pageSize} entries each) are free; ` +
        'make it with a larger capacity',
    );
  }

  /** Takes a free page. @throws KvCapacityError when there is none. */
  take(): number {
    this.expectFree(1);
    return this.#references.take();
  }

  retain(page: number): void {
    this.#references.retain(page);
  }

  release(page: number): void {
    if (this.#references.release(page)) this.dropped(page, 0);
  }

  /** Tells followers that entries from `entries` on are gone. */
  dropped(page: number, entries: number): void {
    for (const follower of this.#followers.values()) follower.dropped(page, entries);
  }

  /** The follower of a key, if there is one. */
  follower<F extends PageFollower>(key: unknown): F | undefined {
    // As for `follow`.
    return this.#followers.get(key) as F | undefined;
  }

  /** The follower of a key, made by `create` when there is none. It lives as long as the pool. */
  follow<F extends PageFollower>(key: unknown, create: () => F): F {
    const known = this.#followers.get(key);
    // What a key stands for is its owner's to know: keys are made together with the type of what they lead to.
    if (known) return known as F;
    const follower = create();
    this.#followers.set(key, follower);
    return follower;
  }

  /** Takes a follower off; whoever made it disposes it. */
  unfollow(key: unknown): void {
    this.#followers.delete(key);
  }

  /** @throws OptionError unless every one is a page in use. */
  expectUsed(caller: string, pages: readonly number[]): void {
    const wrong = pages.find((page) => !(this.#references.count(page) > 0));
    if (wrong !== undefined)
      throw new OptionError(`${caller}: pages has ${wrong}, which is none of the ${this.pages} pages or is free`);
  }

  shared(page: number): boolean {
    return this.#references.count(page) > 1;
  }

  /** Caches that use each page. */
  owners(page: number): number {
    return this.#references.count(page);
  }

  /** A copy of a page in a free one, over all layers. Of its entries the first `entries` are in use. */
  copy(page: number, entries = this.pageSize): number {
    const target = this.take();
    for (const tensor of [...this.keys, ...this.values]) {
      const [, heads, size, dim] = tensor.shape;
      const source = slice(tensor, [page, 0, 0, 0], [1, heads, size, dim]);
      writeSlice(tensor, source, { axis: 0, start: target });
      source.dispose();
    }
    for (const follower of this.#followers.values()) follower.copied(page, target, entries);
    return target;
  }

  /** One more cache uses the pool. */
  join(): this {
    this.#owners++;
    return this;
  }

  /** A cache no longer uses the pool; the memory goes back with the last one. */
  leave(): void {
    this.#owners--;
    if (this.#owners > 0) return;
    for (const follower of this.#followers.values()) follower.dispose();
    this.#followers.clear();
    for (const tensor of [...this.keys, ...this.values]) tensor.dispose();
  }
}

function checkLayers(layers: readonly KvLayerSpec[], dtype: RawKvType): void {
  if (layers.length === 0) throw new OptionError('PagePool: layers is empty');
  for (const [index, layer] of layers.entries()) {
    for (const name of ['kHeads', 'vHeads', 'kDim', 'vDim'] as const) {
      const value = layer[name];
      if (!Number.isInteger(value) || value < 1)
        throw new OptionError(`PagePool: ${name} of layer ${index} is ${value}, it must be a positive integer`);
    }
    for (const name of ['kDim', 'vDim'] as const) {
      if (dtype === 'f16' && layer[name] % 2 !== 0)
        throw new OptionError(`PagePool: ${name} of layer ${index} is ${layer[name]}, f16 takes even ones`);
    }
    if (layer.kHeads !== layer.vHeads)
      throw new OptionError(
        `PagePool: layer ${index} has ${layer.kHeads} heads of keys and ${layer.vHeads} of values; they must be equal`,
      );
  }
}
