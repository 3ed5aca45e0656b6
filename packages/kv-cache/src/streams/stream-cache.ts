import {
  cast,
  DisposedError,
  fromArray,
  gatherRows,
  keep,
  narrow,
  OptionError,
  reshape,
  scope,
  type Backend,
  type Tensor,
} from '@filigree/core-tensor';
import type { KvView } from '@filigree/sparse-attention';
import { TruncateBelowFloorError } from '../errors.js';
import type { KvBytes } from '../kv-cache.js';
import { appendOp } from '../ops/append.js';
import { PagePool, type PagePoolOptions } from '../page-pool.js';
import { checkIds, checkRows } from './check.js';
import { StreamTables } from './stream-tables.js';
import { Stream, type StreamEntries } from './stream.js';

export interface StreamCacheOptions extends Omit<PagePoolOptions, 'layers' | 'capacity'> {
  readonly layers: number;
  readonly kvHeads: number;
  readonly kDim: number;
  readonly vDim: number;
  /** Entries of all heads of all layers together, rounded up to whole pages; a stream leaves at most one page unfinished. */
  readonly capacity: number;
}

/** Where a step of `count` tokens writes and reads, on the device. Valid until the next mutation. */
export interface StreamStep {
  /** i32 [count]: positions of the tokens. */
  readonly positions: Tensor;
  /** i32 [layers, count · Hk]: slots of token 0 of every head, then of token 1, … */
  readonly slots: Tensor;
  /** i32 [layers · Hk]: entries once the step's are written. */
  readonly lengths: Tensor;
  /** i32 [layers · Hk, width]: `width` grows in steps, so that it seldom changes. */
  readonly table: Tensor;
}

/**
 * Keys and values of one sequence whose heads keep different entries. Every head of every layer is a stream of its own, with a length, pages and
 * positions; all take their pages from one pool `[pages, 1, P, D]`, so that what one gives back another can use. Executors read a layer as a batch of Hk
 * sequences of one key-value head each.
 *
 * {@link positionsEnd}, the position of the next token, goes on counting when entries are evicted.
 */
export class StreamCache {
  readonly backend: Backend;
  readonly pool: PagePool;
  readonly layers: number;
  readonly kvHeads: number;
  readonly #streams: Stream[];
  readonly #tables: StreamTables;
  /** Position of the next token per layer; they differ only in the middle of a step. */
  readonly #ends: number[];
  /** Positions below which entries were evicted: what was there cannot come back. */
  #floor = 0;
  #disposed = false;
  #step: Omit<StreamStep, 'table'> | undefined;

  constructor(backend: Backend, options: StreamCacheOptions | { readonly of: StreamCache }) {
    this.backend = backend;
    if ('of' in options) {
      const { of: parent } = options;
      parent.#assertAlive();
      this.pool = parent.pool.join();
      this.layers = parent.layers;
      this.kvHeads = parent.kvHeads;
      this.#streams = parent.#streams.map((stream) => stream.fork());
      this.#tables = new StreamTables(backend, this.#streams, this.kvHeads);
      this.#ends = [...parent.#ends];
      this.#floor = parent.#floor;
      return;
    }
    const { layers, kvHeads, kDim, vDim, ...pages } = options;
    for (const [name, value] of Object.entries({ layers, kvHeads })) {
      if (!Number.isInteger(value) || value < 1)
        throw new OptionError(`StreamCache: ${name} is ${value}, it must be a positive integer`);
    }
    this.layers = layers;
    this.kvHeads = kvHeads;
    this.pool = new PagePool(backend, { ...pages, layers: [{ kHeads: 1, vHeads: 1, kDim, vDim }] });
    this.#streams = Array.from({ length: layers * kvHeads }, () => new Stream(this.pool));
    this.#tables = new StreamTables(backend, this.#streams, kvHeads);
    this.#ends = new Array<number>(layers).fill(0);
  }

  /** Entries of a head of a layer; without a head of the one that has most, without a layer of all heads of all layers together. */
  length(layer?: number, head?: number): number {
    if (layer === undefined) return this.#streams.reduce((sum, { length }) => sum + length, 0);
    if (head !== undefined) return this.#stream(layer, head).length;
    return Math.max(...this.#ofLayer(layer).map(({ length }) => length));
  }

  /** Position of the next token. */
  get positionsEnd(): number {
    return Math.max(...this.#ends);
  }

  /** Where {@link truncate} can go back to: entries before it were evicted. */
  get floor(): number {
    return this.#floor;
  }

  /** Pages of a head, in the order of its entries. */
  pages(layer: number, head: number): readonly number[] {
    return this.#stream(layer, head).pages;
  }

  /**
   * Takes over pages of its pool, which the caller took and filled, with the positions of their entries: by layer and head, into an empty cache. Positions go up
   * to `end`, and count on from `floor`.
   */
  restore(streams: readonly StreamEntries[], { end, floor }: { readonly end: number; readonly floor: number }): void {
    this.#assertAlive();
    if (this.#streams.some(({ length }) => length > 0) || this.positionsEnd > 0)
      throw new OptionError('StreamCache.restore: the cache has entries already');
    if (streams.length !== this.#streams.length)
      throw new OptionError(`StreamCache.restore: streams has ${streams.length}, the cache ${this.#streams.length}`);
    for (const [index, stream] of this.#streams.entries()) stream.restore(streams[index]);
    this.#ends.fill(end);
    this.#floor = floor;
    this.#tables.changed();
  }

  /** Positions of the entries of a head, ascending. */
  positions(layer: number, head: number): Int32Array {
    const { positions, length } = this.#stream(layer, head);
    return positions.slice(0, length);
  }

  /**
   * Takes entries of a layer from where all of them are: k [Hk, S, D], v [Hk, S, Dv] f32 or f16, for each head the ids it keeps, ascending. Entry i is at
   * position i, or where `places` says, of positions up to `end`. Once per layer, before any other entry of it.
   *
   * @throws KvCapacityError when the pool has no page left; nothing changes then.
   */
  fill(
    layer: number,
    { k, v }: { readonly k: Tensor; readonly v: Tensor },
    kept: readonly ArrayLike<number>[],
    places?: { readonly positions: Int32Array; readonly end: number },
  ): void {
    const streams = this.#ofLayer(layer);
    const heads = this.kvHeads;
    checkRows('StreamCache.fill', { k, v }, { spec: this.pool.layers[0], axes: [heads, 'S'], dtypes: ['f32', 'f16'] });
    const length = k.shape[1];
    if (kept.length !== heads)
      throw new OptionError(`StreamCache.fill: kept has ${kept.length} lists, there are ${heads} heads`);
    if (streams.some((stream) => stream.length > 0))
      throw new OptionError(`StreamCache.fill: layer ${layer} has entries already`);
    for (const ids of kept) checkIds('StreamCache.fill', ids, length);
    const { positions, end } = places ?? { positions: undefined, end: length };
    if (positions && (positions.length !== length || positions.some((at, index) => at >= (positions[index + 1] ?? end))))
      throw new OptionError(`StreamCache.fill: places must be ${length} ascending positions before ${end}`);
    this.pool.expectFree(streams.reduce((sum, stream, head) => sum + stream.missing(kept[head].length), 0));
    const rows = kept.flatMap((ids, head) => Array.from(ids, (id) => head * length + id));
    const slots = streams.flatMap((stream, head) =>
      Array.from(stream.extend(positions ? Array.from(kept[head], (id) => positions[id]) : kept[head])),
    );
    const flat = (x: Tensor): Tensor => reshape(x, [heads * length, x.shape[2]]);
    scope(() => {
      if (rows.length > 0) this.#write(this.#rows({ k: flat(k), v: flat(v) }, rows), slots);
    });
    this.#ends[layer] = Math.max(this.#ends[layer], end);
    this.#evicted(
      layer,
      kept.some((ids) => ids.length < end),
    );
  }

  /** Keeps these entries of a head, ascending ids, closes the gaps and gives whole pages back. A page that a fork has too stays as it is for the fork. */
  keep(layer: number, head: number, ids: ArrayLike<number>): void {
    const stream = this.#stream(layer, head);
    checkIds('StreamCache.keep', ids, stream.length);
    if (ids.length === stream.length) return;
    const moved = Array.from(ids);
    const first = moved.findIndex((id, index) => id !== index);
    const start = first < 0 ? moved.length : first;
    const sources = moved.slice(start);
    const rows = sources.map((id) => stream.slot(id));
    const positions = sources.map((id) => stream.positions[id]);
    const { keys, values, pageSize } = this.pool;
    const whole = Math.floor(start / pageSize);
    const given = stream.pages.slice(whole).filter((page) => !this.pool.shared(page)).length;
    if (sources.length > 0) this.pool.expectFree(Math.ceil(ids.length / pageSize) - whole - given);
    // What moves is copied out before pages go back, so that a full pool can be compressed too.
    scope(() => {
      const taken = rows.length > 0 ? this.#rows({ k: flatPages(keys[0]), v: flatPages(values[0]) }, rows) : undefined;
      stream.cut(start);
      const slots = stream.extend(positions);
      if (taken) this.#write(taken, slots);
    });
    this.#evicted(layer, true);
  }

  /** Keys and values of heads of a layer that have the same number of entries, copied: f32 [heads, entries, D] and [heads, entries, Dv]. */
  entries(layer: number, heads: readonly number[]): { k: Tensor; v: Tensor } {
    const streams = heads.map((head) => this.#stream(layer, head));
    const lengths = streams.map(({ length }) => length);
    if (lengths.some((length) => length !== lengths[0]))
      throw new OptionError(
        `StreamCache.entries: heads ${heads.join(', ')} have ${lengths.join(', ')} entries, they must have the same number`,
      );
    const { keys, values } = this.pool;
    const rows = streams.flatMap((stream) => Array.from(stream.slots(0, stream.length)));
    return scope(() => {
      const { k, v } = this.#rows({ k: flatPages(keys[0]), v: flatPages(values[0]) }, rows);
      const apart = (x: Tensor): Tensor => reshape(x, [heads.length, lengths[0], x.shape[2]]);
      return { k: apart(k), v: apart(v) };
    });
  }

  /**
   * Appends rows to a layer: k [n, Hk, D], v [n, Hk, Dv] f32. A step that not all layers have room for is undone by `truncate`.
   * @throws KvCapacityError when the pool has too few free pages; nothing is written then.
   */
  append(layer: number, { k, v }: { readonly k: Tensor; readonly v: Tensor }): void {
    this.#ofLayer(layer);
    checkRows('StreamCache.append', { k, v }, { spec: this.pool.layers[0], axes: ['n', this.kvHeads], dtypes: ['f32'] });
    const [count, heads] = k.shape;
    if (count === 0) return;
    const slots = this.#extend(layer, count);
    const rows = (x: Tensor): Tensor => reshape(x, [count * heads, 1, x.shape[2]]);
    scope(() => {
      this.#write({ k: rows(k), v: rows(v) }, slots);
    });
  }

  /**
   * Makes room for `count` entries in every stream, which the caller's ops then fill with {@link appendOp}: the shapes of what is returned depend on `count`
   * and on the width of the table alone, so that such a step can be recorded and replayed.
   *
   * @throws KvCapacityError when the pool has too few free pages; nothing changes then.
   */
  reserve(count: number): StreamStep {
    this.#assertAlive();
    if (!Number.isInteger(count) || count < 1)
      throw new OptionError(`StreamCache.reserve: count is ${count}, it must be a positive integer`);
    const start = this.positionsEnd;
    if (this.#ends.some((end) => end !== start))
      throw new OptionError(
        'StreamCache.reserve: the layers end at different positions; finish the step that was begun with append',
      );
    this.pool.expectFree(this.#streams.reduce((sum, stream) => sum + stream.missing(count), 0));
    const perLayer = count * this.kvHeads;
    const [positionsAt, slotsAt, lengthsAt] = [0, count, count + this.layers * perLayer];
    const numbers = new Int32Array(lengthsAt + this.#streams.length);
    for (let index = 0; index < count; index++) numbers[positionsAt + index] = start + index;
    for (let layer = 0; layer < this.layers; layer++) numbers.set(this.#extend(layer, count), slotsAt + layer * perLayer);
    for (const [index, { length }] of this.#streams.entries()) numbers[lengthsAt + index] = length;
    const whole = fromArray(this.backend, numbers, [numbers.length], 'i32');
    const part = (at: number, length: number): Tensor => keep(narrow(whole, at, length));
    this.#forgetStep();
    const slots = part(slotsAt, this.layers * perLayer);
    this.#step = {
      positions: part(positionsAt, count),
      slots: keep(slots.view([this.layers, perLayer], slots.offset)),
      lengths: part(lengthsAt, this.#streams.length),
    };
    slots.dispose();
    whole.dispose();
    return { ...this.#step, table: this.#tables.whole() };
  }

  /** What executors read: a batch of Hk sequences with one key-value head each. No copy; valid until the next mutation. */
  view(layer: number): KvView {
    const streams = this.#ofLayer(layer);
    return {
      k: this.pool.keys[0],
      v: this.pool.values[0],
      table: this.#tables.layer(layer),
      lengths: streams.map(({ length }) => length),
      codec: this.pool.codec,
    };
  }

  /**
   * Drops every entry at `position` or later.
   * @throws TruncateBelowFloorError when entries before it were evicted while later ones were there.
   */
  truncate(position: number): void {
    this.#assertAlive();
    if (!Number.isInteger(position) || position < 0)
      throw new OptionError(`StreamCache.truncate: position is ${position}, it must be a non-negative integer`);
    if (position >= this.positionsEnd) return;
    if (position < this.#floor)
      throw new TruncateBelowFloorError(
        `StreamCache.truncate: entries were evicted when the cache ended at ${this.#floor}, it cannot go back to ${position}; fork it before it is compressed`,
      );
    for (const stream of this.#streams) stream.cut(stream.before(position));
    for (const [layer, end] of this.#ends.entries()) this.#ends[layer] = Math.min(end, position);
    this.#tables.changed();
  }

  /** A second cache with the same entries: pages are shared and copied only when one of the two writes into them. */
  fork(): StreamCache {
    this.#assertAlive();
    return new StreamCache(this.backend, { of: this });
  }

  /** Exact bytes in use: whole pages, and positions, tables and slots. What the pool reserved and nobody uses is not counted. */
  bytes(): KvBytes {
    const { pageBytes } = this.pool;
    const pages = this.#streams.flatMap((stream) => stream.pages);
    const shared = pages.filter((page) => this.pool.shared(page)).length * pageBytes;
    const raw = pages.length * pageBytes - shared;
    const step = [this.#step?.positions, this.#step?.slots, this.#step?.lengths];
    const tensors = step.reduce((sum, tensor) => sum + (tensor?.bytes ?? 0), 0);
    const meta = tensors + this.#tables.bytes + this.#streams.reduce((sum, { positions }) => sum + positions.byteLength, 0);
    return { raw, codes: 0, shared, meta, total: raw + shared + meta };
  }

  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    for (const stream of this.#streams) stream.cut(0);
    this.#forgetStep();
    this.#tables.dispose();
    this.pool.leave();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  /** Slots of the next `count` tokens of a layer: of token 0 in every head, then of token 1, … */
  #extend(layer: number, count: number): Int32Array {
    const streams = this.#ofLayer(layer);
    this.pool.expectFree(streams.reduce((sum, stream) => sum + stream.missing(count), 0));
    const positions = Int32Array.from({ length: count }, (_, index) => this.#ends[layer] + index);
    const slots = new Int32Array(count * streams.length);
    for (const [head, stream] of streams.entries()) {
      const before = stream.pages.length;
      const last = stream.pages.at(-1);
      const own = stream.extend(positions);
      if (stream.pages.length !== before || (before > 0 && stream.pages[before - 1] !== last)) this.#tables.changed();
      for (let index = 0; index < count; index++) slots[index * streams.length + head] = own[index];
    }
    this.#ends[layer] += count;
    return slots;
  }

  /** Rows of flat keys and values, as f32 [n, 1, D]. */
  #rows({ k, v }: { readonly k: Tensor; readonly v: Tensor }, rows: readonly number[]): { k: Tensor; v: Tensor } {
    const ids = fromArray(this.backend, rows, [rows.length], 'i32');
    const some = (x: Tensor): Tensor => {
      const found = gatherRows(x, ids);
      return reshape(found.dtype === 'f32' ? found : cast(found, 'f32'), [rows.length, 1, x.shape[1]]);
    };
    return { k: some(k), v: some(v) };
  }

  #write({ k, v }: { readonly k: Tensor; readonly v: Tensor }, slots: ArrayLike<number>): void {
    const ids = fromArray(this.backend, slots, [slots.length], 'i32');
    appendOp({ keyPages: this.pool.keys[0], valuePages: this.pool.values[0], k, v, slots: ids }, {});
  }

  #evicted(layer: number, lost: boolean): void {
    if (lost) this.#floor = Math.max(this.#floor, this.#ends[layer]);
    this.#tables.changed();
  }

  #forgetStep(): void {
    for (const tensor of Object.values(this.#step ?? {})) tensor.dispose();
    this.#step = undefined;
  }

  #ofLayer(layer: number): Stream[] {
    this.#assertAlive();
    if (!Number.isInteger(layer) || layer < 0 || layer >= this.layers)
      throw new OptionError(`StreamCache: layer ${layer} is not one of ${this.layers}`);
    return this.#streams.slice(layer * this.kvHeads, (layer + 1) * this.kvHeads);
  }

  #stream(layer: number, head: number): Stream {
    const streams = this.#ofLayer(layer);
    if (!Number.isInteger(head) || head < 0 || head >= streams.length)
      throw new OptionError(`StreamCache: head ${head} is not one of ${streams.length}`);
    return streams[head];
  }

  #assertAlive(): void {
    if (this.#disposed) throw new DisposedError('StreamCache: used after dispose()');
  }
}

/** Pages as rows, one per slot. */
function flatPages(pages: Tensor): Tensor {
  const [count, , size, dim] = pages.shape;
  return reshape(pages, [count * size, dim]);
}
