import {
  cast,
  concat,
  DisposedError,
  empty,
  fromArray,
  gatherRows,
  keep,
  narrow,
  OptionError,
  permute,
  reshape,
  scope,
  slice,
  type Backend,
  type Tensor,
} from '@filigree/core-tensor';
import type { KvBytes } from '../kv-cache.js';
import { appendOp } from '../ops/append.js';
import { PagePool, type KvLayerSpec } from '../page-pool.js';
import type { RawKvType } from '../codec.js';
import type { CodedKvCodec } from './coded-codec.js';
import { CodedPool } from './coded-pool.js';

export interface CodedCacheOptions {
  readonly layers: readonly KvLayerSpec[];
  /** Entries that all caches on these pages can hold together. */
  readonly capacity: number;
  /** Entries of them that can be raw at a time: the newest ones, and a whole step. */
  readonly raw: number;
  readonly codec: { readonly k: CodedKvCodec; readonly v: CodedKvCodec };
  /** Newest entries that stay raw; default 64. */
  readonly residual?: number | undefined;
  /** Entries per page, a multiple of 32; default 64. */
  readonly pageSize?: number | undefined;
  /** Of raw entries; default f16. */
  readonly dtype?: RawKvType | undefined;
}

/** Where a step writes and reads, on the device. Valid until the next mutation. */
export interface CodedStep {
  /** i32 [count]. */
  readonly positions: Tensor;
  /** i32 [count]: slots in the raw pages. */
  readonly slots: Tensor;
  /** i32 [1]: raw entries once the step's are written, and coded ones. */
  readonly rawLengths: Tensor;
  readonly codedLengths: Tensor;
  /** i32 [1, pages]. */
  readonly rawTable: Tensor;
  readonly codedTable: Tensor;
}

/** Places a table grows by. */
const tableStep = 32;

/**
 * Keys and values of one sequence, old ones as codes: `[coded pages …][raw pages]`. New entries are raw; before a step, whole pages of entries that are
 * older than the newest `residual` are encoded into pages of their own, over all layers, and their raw pages used again. Forks share both kinds.
 *
 * Appending one by one and many at a time gives other codes only where a step reads entries that are not encoded yet: the same pages are encoded in the end.
 */
export class CodedCache {
  readonly backend: Backend;
  readonly raw: PagePool;
  readonly coded: CodedPool;
  readonly codec: CodedCacheOptions['codec'];
  readonly residual: number;
  readonly #rawPages: number[] = [];
  readonly #codedPages: number[] = [];
  #length = 0;
  #disposed = false;
  #tensors: Tensor[] = [];

  constructor(backend: Backend, options: CodedCacheOptions | { readonly of: CodedCache }) {
    this.backend = backend;
    if ('of' in options) {
      const { of: parent } = options;
      this.raw = parent.raw.join();
      this.coded = parent.coded.join();
      this.codec = parent.codec;
      this.residual = parent.residual;
      this.#length = parent.#length;
      for (const page of parent.#rawPages) this.raw.retain(page);
      for (const page of parent.#codedPages) this.coded.retain(page);
      this.#rawPages.push(...parent.#rawPages);
      this.#codedPages.push(...parent.#codedPages);
      return;
    }
    const { layers, capacity, raw, codec, residual = 64, pageSize = 64, dtype = 'f16' } = options;
    for (const [name, value] of Object.entries({ residual, raw })) {
      if (!Number.isInteger(value) || value < 0)
        throw new OptionError(`CodedCache: ${name} is ${value}, it must be a non-negative integer`);
    }
    this.codec = codec;
    this.residual = residual;
    this.raw = new PagePool(backend, { layers, capacity: Math.max(1, Math.min(raw, capacity)) + pageSize, pageSize, dtype });
    this.coded = new CodedPool(backend, { layers, pages: Math.ceil(capacity / pageSize), pageSize, codec });
  }

  /** Entries. */
  length(): number {
    return this.#length;
  }

  get positionsEnd(): number {
    return this.#length;
  }

  /** Entries that are codes. */
  get codedLength(): number {
    return this.#codedPages.length * this.raw.pageSize;
  }

  /**
   * Makes room for `count` entries, encoding what has grown old first. The caller's ops fill it with {@link appendOp} into `raw`.
   * @throws KvCapacityError when there are too few pages, OptionError when count is no positive integer; the cache holds the same entries then.
   */
  reserve(count: number): CodedStep {
    this.#assertAlive();
    if (!Number.isInteger(count) || count < 1)
      throw new OptionError(`CodedCache.reserve: count is ${count}, it must be a positive integer`);
    this.encodeOld();
    const { pageSize } = this.raw;
    const before = this.#length - this.codedLength;
    const needed = Math.ceil((before + count) / pageSize);
    const last = this.#rawPages.at(-1);
    const copies = last !== undefined && before % pageSize !== 0 && this.raw.shared(last);
    this.raw.expectFree(needed - this.#rawPages.length + (copies ? 1 : 0));
    if (copies) {
      this.#rawPages[this.#rawPages.length - 1] = this.raw.copy(last, before % pageSize);
      this.raw.release(last);
    }
    while (this.#rawPages.length < needed) this.#rawPages.push(this.raw.take());
    const start = this.#length;
    this.#length += count;
    const slot = (entry: number): number => this.#rawPages[Math.floor(entry / pageSize)] * pageSize + (entry % pageSize);
    const [rawTable, codedTable] = [padded(this.#rawPages), padded(this.#codedPages)];
    const numbers = [
      ...Array.from({ length: count }, (_, index) => start + index),
      ...Array.from({ length: count }, (_, index) => slot(before + index)),
      ...[before + count, this.codedLength],
      ...rawTable,
      ...codedTable,
    ];
    this.#forget();
    const whole = fromArray(this.backend, numbers, [numbers.length], 'i32');
    let at = 0;
    const part = (length: number): Tensor => {
      const tensor = keep(narrow(whole, at, length));
      at += length;
      this.#tensors.push(tensor);
      return tensor;
    };
    const table = (length: number): Tensor => {
      const tensor = keep(whole.view([1, length], whole.offset + at));
      at += length;
      this.#tensors.push(tensor);
      return tensor;
    };
    const step = {
      ...{ positions: part(count), slots: part(count), rawLengths: part(1), codedLengths: part(1) },
      ...{ rawTable: table(rawTable.length), codedTable: table(codedTable.length) },
    };
    whole.dispose();
    return step;
  }

  /** Encodes whole pages of entries older than the newest `residual`. Steps do it when they begin; after a prompt it gives the raw pages back at once. */
  encodeOld(): void {
    this.#assertAlive();
    const { pageSize } = this.raw;
    const count = Math.floor((this.#length - this.codedLength - this.residual) / pageSize);
    if (count <= 0) return;
    this.coded.expectFree(count);
    const sources = this.#rawPages.splice(0, count);
    const targets = sources.map(() => this.coded.take());
    scope(() => {
      const from = fromArray(this.backend, sources, [count], 'i32');
      const to = fromArray(this.backend, targets, [count], 'i32');
      for (const [layer, coded] of this.coded.keys.entries()) {
        const values = this.coded.values[layer];
        this.codec.k.encodePages('keys', { pages: this.raw.keys[layer], sources: from, targets: to, coded });
        this.codec.v.encodePages('values', { pages: this.raw.values[layer], sources: from, targets: to, coded: values });
      }
    });
    for (const page of sources) this.raw.release(page);
    this.#codedPages.push(...targets);
  }

  /** Keys and values of a layer as numbers, copied: f32 [Hk, entries, D] and [Hk, entries, Dv]. Of a step that is reserved, what its ops have written. */
  entries(layer: number): { k: Tensor; v: Tensor } {
    this.#assertAlive();
    const { layers, keys, values } = this.raw;
    if (!Number.isInteger(layer) || layer < 0 || layer >= layers.length)
      throw new OptionError(`CodedCache: layer ${layer} is not one of ${layers.length}`);
    const { kDim, vDim } = layers[layer];
    return scope(() => ({
      k: this.#rows('keys', { codec: this.codec.k, coded: this.coded.keys[layer], raw: keys[layer], dim: kDim }),
      v: this.#rows('values', { codec: this.codec.v, coded: this.coded.values[layer], raw: values[layer], dim: vDim }),
    }));
  }

  /** Drops every entry at `length` or later. A page of codes that is cut becomes raw again, with the numbers that its codes stand for. */
  truncate(length: number): void {
    this.#assertAlive();
    if (!Number.isInteger(length) || length < 0)
      throw new OptionError(`CodedCache.truncate: length is ${length}, it must be a non-negative integer`);
    if (length >= this.#length) return;
    const { pageSize } = this.raw;
    const whole = Math.floor(length / pageSize);
    if (length < this.codedLength) {
      this.#releaseRaw(0);
      const cut = this.#codedPages[whole];
      if (length % pageSize !== 0) this.#rawPages.push(this.#decoded(cut));
      while (this.#codedPages.length > whole) this.coded.release(this.#codedPages.pop() ?? 0);
    } else this.#releaseRaw(Math.ceil((length - this.codedLength) / pageSize));
    this.#length = length;
  }

  /** A second cache with the same entries: pages are shared, raw ones copied when one of the two writes into them. */
  fork(): CodedCache {
    this.#assertAlive();
    return new CodedCache(this.backend, { of: this });
  }

  /** Exact bytes in use: whole pages, and the step's tables. */
  bytes(): KvBytes {
    const [rawBytes, codeBytes] = [this.raw.pageBytes, this.coded.pageBytes];
    const sharedRaw = this.#rawPages.filter((page) => this.raw.shared(page)).length;
    const sharedCoded = this.#codedPages.filter((page) => this.coded.shared(page)).length;
    const raw = (this.#rawPages.length - sharedRaw) * rawBytes;
    const codes = (this.#codedPages.length - sharedCoded) * codeBytes;
    const shared = sharedRaw * rawBytes + sharedCoded * codeBytes;
    const meta = this.#tensors.reduce((sum, { bytes }) => sum + bytes, 0);
    return { raw, codes, shared, meta, total: raw + codes + shared + meta };
  }

  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#releaseRaw(0);
    for (const page of this.#codedPages.splice(0)) this.coded.release(page);
    this.#forget();
    this.raw.leave();
    this.coded.leave();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  /** All entries of a layer as f32 [Hk, entries, dim]. */
  #rows(
    side: 'keys' | 'values',
    {
      codec,
      coded,
      raw,
      dim,
    }: { readonly codec: CodedKvCodec; readonly coded: Tensor; readonly raw: Tensor; readonly dim: number },
  ): Tensor {
    const { pageSize } = this.raw;
    const ids = (pages: readonly number[]): Tensor => fromArray(this.backend, pages, [pages.length], 'i32');
    const parts = [];
    if (this.#codedPages.length > 0) parts.push(codec.decodePages(side, coded, ids(this.#codedPages), { pageSize, dim }));
    if (this.#rawPages.length > 0) {
      const rows = gatherRows(raw, ids(this.#rawPages));
      parts.push(rows.dtype === 'f32' ? rows : cast(rows, 'f32'));
    }
    const heads = raw.shape[1];
    if (parts.length === 0) return empty(this.backend, [heads, 0, dim], 'f32');
    const pages = concat(parts, 0);
    const whole = reshape(permute(pages, [1, 0, 2, 3]), [heads, pages.shape[0] * pageSize, dim]);
    return slice(whole, [0, 0, 0], [heads, this.#length, dim]);
  }

  /** A raw page with the rows of a coded one. */
  #decoded(page: number): number {
    const { pageSize, layers } = this.raw;
    const target = this.raw.take();
    scope(() => {
      const ids = fromArray(this.backend, [page], [1], 'i32');
      const slots = fromArray(
        this.backend,
        Int32Array.from({ length: pageSize }, (_, entry) => target * pageSize + entry),
        [pageSize],
        'i32',
      );
      for (const [layer, { kHeads, kDim, vDim }] of layers.entries()) {
        const rows = (decoded: Tensor, dim: number): Tensor => reshape(permute(decoded, [0, 2, 1, 3]), [pageSize, kHeads, dim]);
        const k = rows(this.codec.k.decodePages('keys', this.coded.keys[layer], ids, { pageSize, dim: kDim }), kDim);
        const v = rows(this.codec.v.decodePages('values', this.coded.values[layer], ids, { pageSize, dim: vDim }), vDim);
        appendOp({ keyPages: this.raw.keys[layer], valuePages: this.raw.values[layer], k, v, slots }, {});
      }
    });
    return target;
  }

  #releaseRaw(left: number): void {
    while (this.#rawPages.length > left) this.raw.release(this.#rawPages.pop() ?? 0);
  }

  #forget(): void {
    for (const tensor of this.#tensors) tensor.dispose();
    this.#tensors = [];
  }

  #assertAlive(): void {
    if (this.#disposed) throw new DisposedError('CodedCache: used after dispose()');
  }
}

/** A row of a table; unused places hold page 0, which no length reaches. */
function padded(pages: readonly number[]): number[] {
  const width = Math.max(1, Math.ceil(pages.length / tableStep)) * tableStep;
  return [...pages, ...new Array<number>(width - pages.length).fill(0)];
}
