import {
  DisposedError,
  DTypeError,
  formatShape,
  fromArray,
  keep,
  narrow,
  OptionError,
  ShapeError,
  type Backend,
  type Tensor,
} from '@filigree/core-tensor';
import type { KvView } from '@filigree/sparse-attention';
import { appendOp } from './ops/append.js';
import { PagePool, type PagePoolOptions } from './page-pool.js';

export type KvCacheOptions = PagePoolOptions;

/** Where a step of `count` tokens writes and reads, on the device: what {@link KvCache.reserve} returns. Valid until the next mutation. */
export interface KvStep {
  /** i32 [count]: positions of the tokens. */
  readonly positions: Tensor;
  /** i32 [count]: slots for {@link appendOp}. */
  readonly slots: Tensor;
  /** i32 [1]: entries once the step's are written. */
  readonly lengths: Tensor;
  /** i32 [1, 2]: entries of the step, and `lengths`. */
  readonly spans: Tensor;
  /** i32 [1, pages]: of the cache's whole capacity, so that its shape never changes. */
  readonly table: Tensor;
}

/** A pool that several caches use, and pages of it that a cache begins with. */
export interface SharedPages {
  readonly pool: PagePool;
  /** Pages in use, in the order of their entries; default none. */
  readonly pages?: readonly number[] | undefined;
  /** Entries in them; default all. */
  readonly length?: number | undefined;
}

/** Exact bytes of a cache, by category. */
export interface KvBytes {
  /** Pages of rows that only this cache uses. */
  readonly raw: number;
  /** Pages of codes that only this cache uses. */
  readonly codes: number;
  /** Pages it shares with forks. */
  readonly shared: number;
  /** Page table and slots on the device. */
  readonly meta: number;
  readonly total: number;
}

/**
 * Paged keys and values of one sequence, all layers. Entry i of every layer lies in page `table[floor(i / pageSize)]`; the table is shared by
 * the layers. Appending writes into reserved pages and never copies what is there; a fork shares pages until one side writes.
 */
export class KvCache {
  readonly backend: Backend;
  readonly pool: PagePool;
  readonly #pages: number[] = [];
  readonly #lengths: number[];
  #committed = 0;
  #generation = 0;
  #disposed = false;
  /** Device copies of the table and of the slots of the rows being appended; uploaded once per step and shared by the layers. */
  #table: { readonly tensor: Tensor; readonly pages: number } | undefined;
  #slots: { readonly tensor: Tensor; readonly start: number; readonly count: number } | undefined;
  /** Of the last `reserve`, and the table of all pages that goes with it. */
  #step: Omit<KvStep, 'table'> | undefined;
  #whole: { readonly tensor: Tensor; stale: boolean } | undefined;

  /**
   * A cache with a pool of its own, or on a pool that it shares with others. There it may begin with pages that are in use: it shares them, and copies one
   * only to write into it.
   */
  constructor(backend: Backend, options: KvCacheOptions | SharedPages) {
    this.backend = backend;
    const pages = 'pool' in options ? (options.pages ?? []) : [];
    const length = 'pool' in options ? startLength(options) : 0;
    this.pool = 'pool' in options ? options.pool.join() : new PagePool(backend, options);
    for (const page of pages) {
      this.pool.retain(page);
      this.#pages.push(page);
    }
    this.#lengths = new Array<number>(this.pool.layers.length).fill(length);
    this.#committed = length;
  }

  /** Entries of a layer; without one, of the layer that has most (they differ only in the middle of a step). */
  length(layer?: number): number {
    return layer === undefined ? Math.max(0, ...this.#lengths) : this.#layer(layer);
  }

  /** Position of the next token. */
  get positionsEnd(): number {
    return this.length();
  }

  /** Pages of the cache, in the order of its entries. */
  get pages(): readonly number[] {
    return this.#pages;
  }

  /** Counts how often entries were taken back: what was found out about positions before may be about other entries now. */
  get generation(): number {
    return this.#generation;
  }

  /** Entries the pool can still take for this cache. */
  get room(): number {
    const partial = this.#pages.length * this.pool.pageSize - this.length();
    return partial + this.pool.freePages * this.pool.pageSize;
  }

  /**
   * Appends rows to a layer: k [n, Hk, D], v [n, Hk, Dv] f32.
   * @throws KvCapacityError when the pool has no free page; nothing is written then.
   */
  append(layer: number, { k, v }: { k: Tensor; v: Tensor }): void {
    const start = this.#layer(layer);
    const count = k.shape[0];
    this.#checkRows(layer, k, v);
    if (count === 0) return;
    this.#reserve(start, start + count);
    const slots = this.#slotsOf(start, count);
    appendOp({ keyPages: this.pool.keys[layer], valuePages: this.pool.values[layer], k, v, slots }, {});
    this.#lengths[layer] = start + count;
    if (layer === this.#lengths.length - 1) this.commit(this.#lengths[layer]);
  }

  /**
   * Makes room for `count` entries on every layer, which the caller's ops then fill with {@link appendOp}: the shapes of what is returned
   * depend on `count` alone, so that such a step can be recorded and replayed.
   * @throws KvCapacityError when the pool has no free page; nothing changes then.
   */
  reserve(count: number): KvStep {
    this.#assertAlive();
    const start = this.length();
    if (!Number.isInteger(count) || count < 1)
      throw new OptionError(`KvCache.reserve: count is ${count}, it must be a positive integer`);
    if (this.#lengths.some((length) => length !== start))
      throw new OptionError('KvCache.reserve: the layers have different lengths; finish the step that was begun with append');
    this.#reserve(start, start + count);
    this.#lengths.fill(start + count);
    this.commit(start + count);
    const numbers = new Int32Array(2 * count + 2);
    for (let index = 0; index < count; index++) {
      const entry = start + index;
      numbers[index] = entry;
      numbers[count + index] = this.#slot(entry);
    }
    numbers[2 * count] = count;
    numbers[2 * count + 1] = start + count;
    this.#forgetStep();
    const whole = fromArray(this.backend, numbers, [numbers.length], 'i32');
    const part = (at: number, length: number): Tensor => keep(narrow(whole, at, length));
    const step = {
      positions: part(0, count),
      slots: part(count, count),
      lengths: part(2 * count + 1, 1),
      spans: keep(whole.view([1, 2], whole.offset + 2 * count)),
    };
    whole.dispose();
    this.#step = step;
    return { ...step, table: this.#wholeTable() };
  }

  /** What executors read: no copy. Valid until the next mutation of the cache. */
  view(layer: number): KvView {
    const length = this.#layer(layer);
    return {
      k: this.pool.keys[layer],
      v: this.pool.values[layer],
      table: this.#tableTensor(),
      lengths: [length],
      codec: this.pool.codec,
    };
  }

  /** Makes the first `length` entries permanent. Appending to the last layer commits by itself. */
  commit(length: number): void {
    if (!Number.isInteger(length) || length < 0 || length > this.length()) {
      throw new OptionError(`KvCache.commit: length is ${length}, the cache has ${this.length()} entries`);
    }
    this.#committed = Math.max(this.#committed, length);
  }

  /**
   * Goes on with other pages that hold the same entries: the first ones of the cache, all of them full. What {@link PrefixIndex.insert} returns goes in here,
   * so that equal prefixes are in memory once.
   */
  adopt(pages: readonly number[]): void {
    this.#assertAlive();
    this.pool.expectUsed('KvCache.adopt', pages);
    const full = Math.floor(Math.min(...this.#lengths) / this.pool.pageSize);
    if (pages.length > full) throw new OptionError(`KvCache.adopt: pages has ${pages.length}, the cache has ${full} full ones`);
    let changed = false;
    for (const [index, page] of pages.entries()) {
      const before = this.#pages[index];
      if (page === before) continue;
      this.pool.retain(page);
      this.#pages[index] = page;
      this.pool.release(before);
      changed = true;
    }
    if (changed) this.#forgetTables();
  }

  /** Drops every entry at position `length` or later; pages that become empty are freed. */
  truncate(length: number): void {
    this.#assertAlive();
    if (!Number.isInteger(length) || length < 0)
      throw new OptionError(`KvCache.truncate: length is ${length}, it must be a non-negative integer`);
    if (length < this.length()) this.#generation++;
    for (let layer = 0; layer < this.#lengths.length; layer++) this.#lengths[layer] = Math.min(this.#lengths[layer], length);
    this.#committed = Math.min(this.#committed, length);
    const keep = Math.ceil(this.length() / this.pool.pageSize);
    while (this.#pages.length > keep) this.pool.release(this.#pages.pop() ?? 0);
    const rest = this.length() % this.pool.pageSize;
    const last = this.#pages.at(-1);
    // A shared page keeps its entries for the others; this cache copies it before it writes.
    if (rest > 0 && last !== undefined && !this.pool.shared(last)) this.pool.dropped(last, rest);
    this.#forgetTables();
  }

  /** A second cache with the same entries: pages are shared and copied only when one of the two writes into them. */
  fork(): KvCache {
    this.#assertAlive();
    const child = new KvCache(this.backend, { pool: this.pool });
    for (const page of this.#pages) {
      this.pool.retain(page);
      child.#pages.push(page);
    }
    for (const [layer, length] of this.#lengths.entries()) child.#lengths[layer] = length;
    child.#committed = this.#committed;
    return child;
  }

  /** Exact bytes in use: whole pages. What the pool reserved and nobody uses yet is not counted. */
  bytes(): KvBytes {
    const sharedPages = this.#pages.filter((page) => this.pool.shared(page)).length;
    const shared = sharedPages * this.pool.pageBytes;
    const raw = (this.#pages.length - sharedPages) * this.pool.pageBytes;
    // The step's lengths are a part of its spans.
    const step = [this.#step?.positions, this.#step?.slots, this.#step?.spans];
    const tensors = [this.#table?.tensor, this.#slots?.tensor, this.#whole?.tensor, ...step];
    const meta = tensors.reduce((sum, tensor) => sum + (tensor?.bytes ?? 0), 0);
    return { raw, codes: 0, shared, meta, total: raw + shared + meta };
  }

  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    for (const page of this.#pages) this.pool.release(page);
    this.#pages.length = 0;
    this.#forgetTables();
    this.#forgetStep();
    this.#whole?.tensor.dispose();
    this.pool.leave();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  /** Pages for entries up to `end`, and none of those from `start` on shared with a fork. */
  #reserve(start: number, end: number): void {
    const needed = Math.ceil(end / this.pool.pageSize);
    const first = Math.floor(start / this.pool.pageSize);
    const copies = this.#pages.slice(first).filter((page) => this.pool.shared(page)).length;
    // Checked before anything is taken, so that a full pool leaves the cache as it was.
    this.pool.expectFree(needed - this.#pages.length + copies);
    let changed = false;
    for (let index = first; index < this.#pages.length; index++) {
      const page = this.#pages[index];
      if (!this.pool.shared(page)) continue;
      this.#pages[index] = this.pool.copy(page, start - index * this.pool.pageSize);
      this.pool.release(page);
      changed = true;
    }
    while (this.#pages.length < needed) {
      this.#pages.push(this.pool.take());
      changed = true;
    }
    if (changed) this.#forgetTables();
  }

  /** Before any page is taken, so that rows which do not fit leave the cache as it was. */
  #checkRows(layer: number, k: Tensor, v: Tensor): void {
    const { kHeads, vHeads, kDim, vDim } = this.pool.layers[layer];
    if (k.shape[0] !== v.shape[0]) throw new ShapeError(`KvCache.append: k has ${k.shape[0]} rows, v ${v.shape[0]}`);
    for (const [name, rows, heads, dim] of [['k', k, kHeads, kDim] as const, ['v', v, vHeads, vDim] as const]) {
      if (rows.shape.length !== 3 || rows.shape[1] !== heads || rows.shape[2] !== dim)
        throw new ShapeError(
          `KvCache.append: ${name} is ${formatShape(rows.shape)}, layer ${layer} takes [n, ${heads}, ${dim}]`,
        );
      if (rows.dtype !== 'f32') throw new DTypeError(`KvCache.append: ${name} is ${rows.dtype}, it takes f32`);
      rows.assertAlive(`KvCache.append: ${name}`);
    }
  }

  /** Row of the pages that holds an entry. */
  #slot(entry: number): number {
    const { pageSize } = this.pool;
    return this.#pages[Math.floor(entry / pageSize)] * pageSize + (entry % pageSize);
  }

  #slotsOf(start: number, count: number): Tensor {
    if (this.#slots?.start === start && this.#slots.count === count) return this.#slots.tensor;
    this.#slots?.tensor.dispose();
    const slots = Int32Array.from({ length: count }, (_, index) => this.#slot(start + index));
    this.#slots = { tensor: keep(fromArray(this.backend, slots, [count], 'i32')), start, count };
    return this.#slots.tensor;
  }

  #tableTensor(): Tensor {
    if (this.#table?.pages === this.#pages.length) return this.#table.tensor;
    this.#table?.tensor.dispose();
    const table = Int32Array.from(this.#pages.length > 0 ? this.#pages : [0]);
    this.#table = { tensor: keep(fromArray(this.backend, table, [1, table.length], 'i32')), pages: this.#pages.length };
    return this.#table.tensor;
  }

  /** The table of as many pages as there can be; unused places hold page 0, which no length reaches. */
  #wholeTable(): Tensor {
    if (this.#whole?.stale === false) return this.#whole.tensor;
    const pages = new Int32Array(this.pool.pages);
    pages.set(this.#pages);
    if (this.#whole) {
      this.backend.write(this.#whole.tensor.storage, 0, new Uint8Array(pages.buffer));
      this.#whole.stale = false;
    } else this.#whole = { tensor: keep(fromArray(this.backend, pages, [1, pages.length], 'i32')), stale: false };
    return this.#whole.tensor;
  }

  #forgetStep(): void {
    for (const tensor of Object.values(this.#step ?? {})) tensor.dispose();
    this.#step = undefined;
  }

  #forgetTables(): void {
    if (this.#whole) this.#whole.stale = true;
    this.#table?.tensor.dispose();
    this.#slots?.tensor.dispose();
    this.#table = undefined;
    this.#slots = undefined;
  }

  #layer(layer: number): number {
    this.#assertAlive();
    if (!Number.isInteger(layer) || layer < 0 || layer >= this.#lengths.length)
      throw new OptionError(`KvCache: layer ${layer} is not one of ${this.#lengths.length}`);
    return this.#lengths[layer];
  }

  #assertAlive(): void {
    if (this.#disposed) throw new DisposedError('KvCache: used after dispose()');
  }
}

/** Entries that a cache begins with. */
function startLength({ pool, pages = [], length = pages.length * pool.pageSize }: SharedPages): number {
  pool.expectUsed('KvCache', pages);
  if (!Number.isInteger(length) || Math.ceil(length / pool.pageSize) !== pages.length)
    throw new OptionError(`KvCache: length is ${length}, ${pages.length} pages of ${pool.pageSize} entries do not end there`);
  return length;
}
