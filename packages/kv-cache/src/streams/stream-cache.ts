import { DisposedError, OptionError, reshape, scope, type Backend, type Tensor } from '@filigree/core-tensor';
import type { KvView } from '@filigree/sparse-attention';
import { TruncateBelowFloorError } from '../errors.js';
import type { KvBytes } from '../kv-cache.js';
import { PagePool, type PagePoolOptions } from '../page-pool.js';
import { checkBias, checkEntry, checkIds, checkPositions, checkRows } from './check.js';
import { OriginalKeys } from './original-keys.js';
import { PageNumbers } from './page-numbers.js';
import { StepTensors, type StreamStep } from './step-tensors.js';
import { StreamEdits, type EntryMerge, type NewEntries, type RotateKeys } from './stream-edits.js';
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

/** What the entries that a layer is filled with have beside keys and values; numbers are [Hk][S], default 0. */
export interface FillOptions {
  /** Ascending positions of the entries, [S], and the first position behind them; default 0 … S − 1, and S. */
  readonly places?: { readonly positions: Int32Array; readonly end: number } | undefined;
  /** What is added to scores. */
  readonly bias?: readonly ArrayLike<number>[] | undefined;
  /** Attention that was received so far. */
  readonly received?: readonly ArrayLike<number>[] | undefined;
}

/**
 * Keys and values of one sequence whose heads keep different entries. Every head of every layer is a stream of its own, with a length, pages and
 * positions; all take their pages from one pool `[pages, 1, P, D]`, so that what one gives back another can use. Executors read a layer as a batch of Hk
 * sequences of one key-value head each.
 *
 * {@link positionsEnd}, the position of the next token, goes on counting when entries are evicted. All entries are at positions before it, in whatever place,
 * so that the tokens of a step see what was there, and of each other the ones before, by the order of places alone.
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
  /** Per layer, positions below which entries were evicted or changed: what was there cannot come back. */
  readonly #floors: number[];
  readonly #edits: StreamEdits;
  #disposed = false;
  readonly #step: StepTensors;

  constructor(backend: Backend, options: StreamCacheOptions | { readonly of: StreamCache }) {
    this.backend = backend;
    this.#step = new StepTensors(backend);
    if ('of' in options) {
      const { of: parent } = options;
      parent.#assertAlive();
      this.pool = parent.pool.join();
      this.layers = parent.layers;
      this.kvHeads = parent.kvHeads;
      this.#streams = parent.#streams.map((stream) => stream.fork());
      this.#tables = new StreamTables(backend, this.#streams, this.kvHeads);
      this.#ends = [...parent.#ends];
      this.#floors = [...parent.#floors];
      this.#edits = new StreamEdits(this.pool);
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
    this.#floors = new Array<number>(layers).fill(0);
    this.#edits = new StreamEdits(this.pool);
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

  /** Where {@link truncate} can go back to: entries before it were evicted, changed, or made permanent. */
  get floor(): number {
    return Math.max(...this.#floors);
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
    this.#floors.fill(floor);
    this.#tables.changed();
  }

  /** Positions of the entries of a head; ascending, unless some were overwritten or moved. */
  positions(layer: number, head: number): Int32Array {
    const { positions, length } = this.#stream(layer, head);
    return positions.slice(0, length);
  }

  /** What is added to the scores of the entries of a head: 0 until it is set. */
  bias(layer: number, head: number): Float32Array {
    return this.#edits.numbers(this.#stream(layer, head), 'bias');
  }

  /**
   * Sets what is added to the scores of the entries of a head, one number each; −∞ hides an entry, null is 0 for all. Entries keep theirs until they go;
   * those that follow have 0. A pool has memory for it, 4 bytes an entry, from the first one on that is not 0.
   *
   * @throws OptionError for another number of entries, NaN or ∞, KvCapacityError when pages are shared and too few are free; nothing changes then.
   */
  setBias(layer: number, head: number, bias: ArrayLike<number> | null): void {
    const stream = this.#stream(layer, head);
    if (bias) checkBias('StreamCache.setBias', bias, stream.length);
    this.#edits.setNumbers(stream, 'bias', bias ?? new Float32Array(stream.length));
    this.#tables.changed();
  }

  /** Attention that the entries of a head received, as far as somebody counts it with {@link setReceived}; on the host alone. */
  received(layer: number, head: number): Float32Array {
    return this.#edits.numbers(this.#stream(layer, head), 'received');
  }

  /** @throws OptionError for another number of entries, or NaN, KvCapacityError when pages are shared and too few are free; nothing changes then. */
  setReceived(layer: number, head: number, received: ArrayLike<number>): void {
    const stream = this.#stream(layer, head);
    checkBias('StreamCache.setReceived', received, stream.length);
    this.#edits.setNumbers(stream, 'received', received);
    this.#tables.changed();
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
    options: FillOptions = {},
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
    const { positions, end } = options.places ?? { positions: undefined, end: length };
    if (positions && (positions.length !== length || positions.some((at, index) => at >= (positions[index + 1] ?? end))))
      throw new OptionError(`StreamCache.fill: places must be ${length} ascending positions before ${end}`);
    for (const rows of [options.bias, options.received])
      for (const row of rows ?? []) checkBias('StreamCache.fill', row, length);
    this.pool.expectFree(streams.reduce((sum, stream, head) => sum + stream.missing(kept[head].length), 0));
    const rows = kept.flatMap((ids, head) => Array.from(ids, (id) => head * length + id));
    const slots = streams.flatMap((stream, head) =>
      Array.from(stream.extend(positions ? Array.from(kept[head], (id) => positions[id]) : kept[head])),
    );
    const whole = (x: Tensor): Tensor => reshape(x, [heads * length, x.shape[2]]);
    const edits = this.#edits;
    scope(() => {
      if (rows.length > 0) edits.rows.write(edits.rows.some({ k: whole(k), v: whole(v) }, rows), slots);
    });
    edits.clear(slots);
    for (const [head, stream] of streams.entries())
      for (const name of ['bias', 'received'] as const) {
        const row = options[name]?.[head];
        if (row)
          edits.setNumbers(
            stream,
            name,
            Array.from(kept[head], (id) => row[id]),
          );
      }
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
    this.#edits.keep(stream, ids);
    this.#evicted(layer, true);
  }

  /**
   * Puts new entries in the place of those of ascending ids, which are lost. They may be at any position; the next token stands behind all of them.
   * @throws KvCapacityError when pages are shared and too few are free; nothing changes then.
   */
  overwrite(layer: number, head: number, ids: ArrayLike<number>, entries: NewEntries): void {
    const stream = this.#stream(layer, head);
    const { k, v, positions, bias } = entries;
    const caller = 'StreamCache.overwrite';
    checkIds(caller, ids, stream.length);
    checkRows(caller, { k, v }, { spec: this.pool.layers[0], axes: [ids.length, 1], dtypes: ['f32'] });
    checkPositions(caller, positions, ids.length);
    if (bias) checkBias(caller, bias, ids.length);
    if (ids.length === 0) return;
    this.#edits.overwrite(stream, ids, entries);
    this.#ends[layer] = Math.max(this.#ends[layer], 1 + Math.max(...Array.from(positions)));
    this.#evicted(layer, true);
  }

  /**
   * Makes one entry of several: weighted means of their keys and of their values in the place and at the position of `into`, with the bias log Σ e^bias, by
   * which it counts as much as all of them. The others go.
   *
   * @throws OptionError when ids are none of the entries, or weights not numbers of which some are positive, KvCapacityError when pages are shared and too few
   * are free; nothing changes then.
   */
  merge(layer: number, head: number, merge: EntryMerge): void {
    const stream = this.#stream(layer, head);
    checkEntry('StreamCache.merge', merge.into, stream.length);
    checkIds('StreamCache.merge', merge.from, stream.length);
    if (Array.from(merge.from).includes(merge.into))
      throw new OptionError(`StreamCache.merge: entry ${merge.into} is to stay and to go; leave it out of from`);
    if (merge.weights && merge.weights.length !== merge.from.length + 1)
      throw new OptionError(
        `StreamCache.merge: there are ${merge.weights.length} weights, it takes ${merge.from.length + 1}: of into, then of from`,
      );
    if (merge.from.length === 0) return;
    this.#edits.merge(stream, merge);
    this.#evicted(layer, true);
  }

  /**
   * Moves the entries of a layer to other positions, [Hk] lists, or to 0, 1, … in every head; the next token of the layer stands behind the last one. Keys are
   * turned in f32 from where they were written, whatever happened to them since; a pool has memory for those from the first call on. A step takes layers
   * that end at the same position.
   *
   * @throws OptionError for other numbers of positions, KvCapacityError when pages are shared and too few are free; nothing changes then.
   */
  reposition(layer: number, to: 'contiguous' | readonly ArrayLike<number>[], rotate: RotateKeys): void {
    const streams = this.#ofLayer(layer);
    const lists = streams.map(({ length }, head) =>
      to === 'contiguous' ? Int32Array.from({ length }, (_, at) => at) : to[head],
    );
    if (to !== 'contiguous' && to.length !== streams.length)
      throw new OptionError(
        `StreamCache.reposition: there are positions of ${to.length} heads, the layer has ${streams.length}`,
      );
    for (const [head, { length }] of streams.entries()) checkPositions('StreamCache.reposition', lists[head], length);
    this.pool.expectFree(streams.reduce((sum, stream, head) => sum + this.#edits.missingToMove(stream, lists[head]), 0));
    for (const [head, stream] of streams.entries()) this.#edits.move(stream, lists[head], rotate);
    this.#ends[layer] = lists.reduce(
      (end, list) => Array.from(list).reduce((most, position) => Math.max(most, position + 1), end),
      0,
    );
    this.#floors[layer] = this.#ends[layer];
    this.#tables.changed();
  }

  /** Makes what lies before `position` permanent: {@link truncate} does not go back behind it. What was accepted of a draft, for one. */
  commit(position: number): void {
    this.#assertAlive();
    if (!Number.isInteger(position) || position < 0 || position > this.positionsEnd)
      throw new OptionError(
        `StreamCache.commit: position is ${position}, it must be an integer within 0 and ${this.positionsEnd}`,
      );
    for (const [layer, floor] of this.#floors.entries()) this.#floors[layer] = Math.max(floor, position);
  }

  /** Keys and values of heads of a layer that have the same number of entries, copied: f32 [heads, entries, D] and [heads, entries, Dv]. */
  entries(layer: number, heads: readonly number[]): { k: Tensor; v: Tensor } {
    const streams = heads.map((head) => this.#stream(layer, head));
    const lengths = streams.map(({ length }) => length);
    if (lengths.some((length) => length !== lengths[0]))
      throw new OptionError(
        `StreamCache.entries: heads ${heads.join(', ')} have ${lengths.join(', ')} entries, they must have the same number`,
      );
    const slots = streams.flatMap((stream) => Array.from(stream.slots(0, stream.length)));
    return scope(() => {
      const { k, v } = this.#edits.rows.read(slots);
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
      this.#edits.rows.write({ k: rows(k), v: rows(v) }, slots);
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
        'StreamCache.reserve: the layers end at different positions; finish the step that was begun with append, or reposition all of them',
      );
    this.pool.expectFree(this.#streams.reduce((sum, stream) => sum + stream.missing(count), 0));
    const slots = Array.from({ length: this.layers }, (_, layer) => this.#extend(layer, count));
    const lengths = this.#streams.map(({ length }) => length);
    return { ...this.#step.upload({ start, count, slots, lengths }), table: this.#tables.whole() };
  }

  /** Biases of all pages, [pages, 1, P] f32, once an entry of the pool has one. */
  get biases(): Tensor | undefined {
    return PageNumbers.find(this.pool, 'bias')?.tensor;
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
      bias: this.biases,
    };
  }

  /**
   * Drops every entry at `position` or later.
   * @throws TruncateBelowFloorError when entries before it were evicted or changed while later ones were there, or made permanent.
   */
  truncate(position: number): void {
    this.#assertAlive();
    if (!Number.isInteger(position) || position < 0)
      throw new OptionError(`StreamCache.truncate: position is ${position}, it must be a non-negative integer`);
    if (position >= this.positionsEnd) return;
    if (position < this.floor)
      throw new TruncateBelowFloorError(
        `StreamCache.truncate: entries were evicted or changed when the cache ended at ${this.floor}, it cannot go back to ${position}; fork it before that`,
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

  /**
   * Exact bytes in use: whole pages, with the biases and original keys of those where the pool has some, and positions, tables and slots. What the pool reserved
   * and nobody uses is not counted.
   */
  bytes(): KvBytes {
    const beside = [PageNumbers.find(this.pool, 'bias'), PageNumbers.find(this.pool, 'received'), OriginalKeys.find(this.pool)];
    const pageBytes = beside.reduce((sum, own) => sum + (own?.pageBytes ?? 0), this.pool.pageBytes);
    const pages = this.#streams.flatMap((stream) => stream.pages);
    const shared = pages.filter((page) => this.pool.shared(page)).length * pageBytes;
    const raw = pages.length * pageBytes - shared;
    const meta = this.#step.bytes + this.#tables.bytes + this.#streams.reduce((sum, { bytes }) => sum + bytes, 0);
    return { raw, codes: 0, shared, meta, total: raw + shared + meta };
  }

  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    for (const stream of this.#streams) stream.cut(0);
    this.#step.dispose();
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
    this.#edits.clear(slots);
    return slots;
  }

  #evicted(layer: number, lost: boolean): void {
    if (lost) this.#floors[layer] = Math.max(this.#floors[layer], this.#ends[layer]);
    this.#tables.changed();
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
