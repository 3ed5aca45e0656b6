import {
  cast,
  DisposedError,
  formatShape,
  fromArray,
  gatherRows,
  keep,
  narrow,
  OptionError,
  reshape,
  scope,
  ShapeError,
  type Backend,
  type Tensor,
} from '@filigree/core-tensor';
import type { KvView } from '@filigree/sparse-attention';
import { TruncateBelowFloorError } from '../errors.js';
import type { KvBytes } from '../kv-cache.js';
import { appendOp } from '../ops/append.js';
import { PagePool, type PagePoolOptions } from '../page-pool.js';
import { Stream } from './stream.js';

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

/** Pages a row of the table grows by. */
const tableStep = 32;

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
  /** Rows of the table per layer. */
  readonly #views = new Map<number, Tensor>();
  #positionsEnd = 0;
  /** Positions below which entries were evicted: what was there cannot come back. */
  #floor = 0;
  #disposed = false;
  #step: Omit<StreamStep, 'table'> | undefined;
  #table: { readonly tensor: Tensor; readonly width: number; stale: boolean } | undefined;

  constructor(backend: Backend, options: StreamCacheOptions | { readonly of: StreamCache }) {
    this.backend = backend;
    if ('of' in options) {
      const { of: parent } = options;
      this.pool = parent.pool.join();
      this.layers = parent.layers;
      this.kvHeads = parent.kvHeads;
      this.#streams = parent.#streams.map((stream) => stream.fork());
      this.#positionsEnd = parent.#positionsEnd;
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
  }

  /** Entries of a head of a layer; without a head of the one that has most, without a layer of all heads of all layers together. */
  length(layer?: number, head?: number): number {
    if (layer === undefined) return this.#streams.reduce((sum, { length }) => sum + length, 0);
    if (head !== undefined) return this.#stream(layer, head).length;
    return Math.max(...this.#ofLayer(layer).map(({ length }) => length));
  }

  /** Position of the next token. */
  get positionsEnd(): number {
    return this.#positionsEnd;
  }

  /** Positions of the entries of a head, ascending. */
  positions(layer: number, head: number): Int32Array {
    const { positions, length } = this.#stream(layer, head);
    return positions.slice(0, length);
  }

  /**
   * Takes entries of a layer from where all of them are: k [Hk, S, D], v [Hk, S, Dv] f32 or f16, for each head the ids it keeps, ascending. Entry i is at
   * position i. Once per layer, before any other entry of it.
   *
   * @throws KvCapacityError when the pool has no page left; nothing changes then.
   */
  fill(layer: number, { k, v }: { readonly k: Tensor; readonly v: Tensor }, kept: readonly ArrayLike<number>[]): void {
    const streams = this.#ofLayer(layer);
    const [heads, length] = k.shape;
    if (heads !== this.kvHeads || v.shape[0] !== heads || v.shape[1] !== length || k.shape.length !== 3 || v.shape.length !== 3)
      throw new ShapeError(
        `StreamCache.fill: k ${formatShape(k.shape)} and v ${formatShape(v.shape)} must be [${this.kvHeads}, S, D] and [${this.kvHeads}, S, Dv]`,
      );
    if (kept.length !== heads)
      throw new OptionError(`StreamCache.fill: kept has ${kept.length} lists, there are ${heads} heads`);
    if (streams.some((stream) => stream.length > 0))
      throw new OptionError(`StreamCache.fill: layer ${layer} has entries already`);
    for (const ids of kept) checkIds('fill', ids, length);
    this.pool.expectFree(streams.reduce((sum, stream, head) => sum + stream.missing(kept[head].length), 0));
    const rows = kept.flatMap((ids, head) => Array.from(ids, (id) => head * length + id));
    const slots = streams.flatMap((stream, head) => Array.from(stream.extend(kept[head])));
    const flat = (x: Tensor): Tensor => reshape(x, [heads * length, x.shape[2]]);
    scope(() => {
      if (rows.length > 0) this.#write(this.#rows({ k: flat(k), v: flat(v) }, rows), slots);
    });
    this.#evicted(
      length,
      kept.some((ids) => ids.length < length),
    );
  }

  /** Keeps these entries of a head, ascending ids, closes the gaps and gives whole pages back. A page that a fork has too stays as it is for the fork. */
  keep(layer: number, head: number, ids: ArrayLike<number>): void {
    const stream = this.#stream(layer, head);
    checkIds('keep', ids, stream.length);
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
    this.pool.expectFree(Math.ceil(ids.length / pageSize) - whole - given);
    // What moves is copied out before pages go back, so that a full pool can be compressed too.
    scope(() => {
      const taken = rows.length > 0 ? this.#rows({ k: flatPages(keys[0]), v: flatPages(values[0]) }, rows) : undefined;
      stream.cut(start);
      const slots = stream.extend(positions);
      if (taken) this.#write(taken, slots);
    });
    this.#evicted(this.#positionsEnd, true);
  }

  /** Appends one step's rows to a layer: k [n, Hk, D], v [n, Hk, Dv] f32. Layers are written in turn; the last one ends the step. */
  append(layer: number, { k, v }: { readonly k: Tensor; readonly v: Tensor }): void {
    const streams = this.#ofLayer(layer);
    const [count, heads] = k.shape;
    if (k.shape.length !== 3 || v.shape.length !== 3 || heads !== this.kvHeads || v.shape[0] !== count || v.shape[1] !== heads)
      throw new ShapeError(
        `StreamCache.append: k ${formatShape(k.shape)} and v ${formatShape(v.shape)} must be [n, ${this.kvHeads}, D] and [n, ${this.kvHeads}, Dv]`,
      );
    if (count === 0) return;
    const slots = this.#extend(streams, count);
    const rows = (x: Tensor): Tensor => reshape(x, [count * heads, 1, x.shape[2]]);
    scope(() => {
      this.#write({ k: rows(k), v: rows(v) }, slots);
    });
    if (layer === this.layers - 1) this.#ended(count);
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
    const start = this.#positionsEnd;
    this.pool.expectFree(this.#streams.reduce((sum, stream) => sum + stream.missing(count), 0));
    const perLayer = count * this.kvHeads;
    const [positionsAt, slotsAt, lengthsAt] = [0, count, count + this.layers * perLayer];
    const numbers = new Int32Array(lengthsAt + this.#streams.length);
    for (let index = 0; index < count; index++) numbers[positionsAt + index] = start + index;
    for (let layer = 0; layer < this.layers; layer++)
      numbers.set(this.#extend(this.#ofLayer(layer), count), slotsAt + layer * perLayer);
    for (const [index, { length }] of this.#streams.entries()) numbers[lengthsAt + index] = length;
    this.#ended(count);
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
    return { ...this.#step, table: this.#tableTensor() };
  }

  /** What executors read: a batch of Hk sequences with one key-value head each. No copy; valid until the next mutation. */
  view(layer: number): KvView {
    const streams = this.#ofLayer(layer);
    const table = this.#tableTensor();
    const rows = this.#views.get(layer) ?? keep(narrow(table, layer * this.kvHeads, this.kvHeads));
    this.#views.set(layer, rows);
    return {
      k: this.pool.keys[0],
      v: this.pool.values[0],
      table: rows,
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
    if (position >= this.#positionsEnd) return;
    if (position < this.#floor)
      throw new TruncateBelowFloorError(
        `StreamCache.truncate: entries were evicted when the cache ended at ${this.#floor}, it cannot go back to ${position}; fork it before it is compressed`,
      );
    for (const stream of this.#streams) stream.cut(stream.before(position));
    this.#positionsEnd = position;
    this.#stale();
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
    const step = [this.#step?.positions, this.#step?.slots, this.#step?.lengths, this.#table?.tensor];
    const tensors = step.reduce((sum, tensor) => sum + (tensor?.bytes ?? 0), 0);
    const meta = tensors + this.#streams.reduce((sum, { positions }) => sum + positions.byteLength, 0);
    return { raw, shared, meta, total: raw + shared + meta };
  }

  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    for (const stream of this.#streams) stream.cut(0);
    this.#forgetStep();
    this.#forgetTable();
    this.pool.leave();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  /** Slots of the next `count` tokens in some streams: of token 0 in each, then of token 1, … */
  #extend(streams: readonly Stream[], count: number): Int32Array {
    this.pool.expectFree(streams.reduce((sum, stream) => sum + stream.missing(count), 0));
    const positions = Int32Array.from({ length: count }, (_, index) => this.#positionsEnd + index);
    const slots = new Int32Array(count * streams.length);
    for (const [head, stream] of streams.entries()) {
      const before = stream.pages.length;
      const last = stream.pages.at(-1);
      const own = stream.extend(positions);
      if (stream.pages.length !== before || (before > 0 && stream.pages[before - 1] !== last)) this.#stale();
      for (let index = 0; index < count; index++) slots[index * streams.length + head] = own[index];
    }
    return slots;
  }

  #ended(count: number): void {
    this.#positionsEnd += count;
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

  #evicted(end: number, lost: boolean): void {
    this.#positionsEnd = Math.max(this.#positionsEnd, end);
    if (lost) this.#floor = this.#positionsEnd;
    this.#stale();
  }

  #tableTensor(): Tensor {
    const most = Math.max(1, ...this.#streams.map(({ pages }) => pages.length));
    if (this.#table && most <= this.#table.width && !this.#table.stale) return this.#table.tensor;
    const width = Math.max(this.#table?.width ?? 0, Math.ceil(most / tableStep) * tableStep);
    // Unused places hold page 0, which no length reaches.
    const numbers = new Int32Array(this.#streams.length * width);
    for (const [index, { pages }] of this.#streams.entries()) numbers.set(pages, index * width);
    if (this.#table?.width === width) {
      this.backend.write(this.#table.tensor.storage, 0, new Uint8Array(numbers.buffer));
      this.#table.stale = false;
      return this.#table.tensor;
    }
    this.#forgetTable();
    const tensor = keep(fromArray(this.backend, numbers, [this.#streams.length, width], 'i32'));
    this.#table = { tensor, width, stale: false };
    return tensor;
  }

  #stale(): void {
    if (this.#table) this.#table.stale = true;
  }

  #forgetTable(): void {
    for (const rows of this.#views.values()) rows.dispose();
    this.#views.clear();
    this.#table?.tensor.dispose();
    this.#table = undefined;
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

/** @throws OptionError unless ids ascend and lie among `length` entries. */
function checkIds(caller: string, ids: ArrayLike<number>, length: number): void {
  let before = -1;
  for (let index = 0; index < ids.length; index++) {
    const id = ids[index];
    if (!Number.isInteger(id) || id <= before || id >= length)
      throw new OptionError(
        `StreamCache.${caller}: entry ${id} at place ${index} does not ascend within the ${length} entries there are`,
      );
    before = id;
  }
}
