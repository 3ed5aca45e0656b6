import { fromArray, mul, OptionError, reduce, scope, type Tensor } from '@filigree/core-tensor';
import type { PagePool } from '../page-pool.js';
import { OriginalKeys } from './original-keys.js';
import { PageNumbers, type EntryNumber } from './page-numbers.js';
import { StreamRows, type Rows } from './stream-rows.js';
import type { Stream } from './stream.js';

/** Turns keys [n, 1, D] on by distances i32 [n], as the model turns them by their positions. */
export type RotateKeys = (keys: Tensor, by: Tensor) => Tensor;

/** Entries in the place of others: rows f32 [n, 1, D] and [n, 1, Dv], their positions, and what is added to their scores (default 0). */
export interface NewEntries extends Rows {
  readonly positions: ArrayLike<number>;
  readonly bias?: ArrayLike<number> | undefined;
}

/** Entries that become one. */
export interface EntryMerge {
  /** The entry that stays, in its place and at its position. */
  readonly into: number;
  /** Entries that go, ascending. */
  readonly from: ArrayLike<number>;
  /** Of `into`, then of those that go; default e^bias, so that each counts as much as it stands for. */
  readonly weights?: ArrayLike<number> | undefined;
}

const names: readonly EntryNumber[] = ['bias', 'received'];

/** What becomes of entries of a stream: rows on the device, and numbers beside them. A page that others have too is copied before it changes. */
export class StreamEdits {
  readonly rows: StreamRows;

  constructor(private readonly pool: PagePool) {
    this.rows = new StreamRows(pool);
  }

  /** Numbers of all entries, 0 where there are none. */
  numbers(stream: Stream, name: EntryNumber): Float32Array {
    return PageNumbers.find(this.pool, name)?.get(stream.slots(0, stream.length)) ?? new Float32Array(stream.length);
  }

  /** Sets numbers of entries, where they are not 0 already. @throws KvCapacityError when pages are shared and there is none for a copy. */
  setNumbers(stream: Stream, name: EntryNumber, values: ArrayLike<number>): void {
    const before = this.numbers(stream, name);
    const changed = [...before.keys()].filter((entry) => before[entry] !== Math.fround(values[entry]));
    if (changed.length === 0) return;
    this.#own(stream, changed);
    PageNumbers.of(this.pool, name).set(
      changed.map((entry) => stream.slot(entry)),
      changed.map((entry) => values[entry]),
    );
  }

  /** New entries have no numbers; pages may have some of entries that others dropped. */
  clear(slots: ArrayLike<number>): void {
    for (const name of names) PageNumbers.find(this.pool, name)?.set(slots);
  }

  /** Keeps entries, ascending ids, and closes the gaps. @throws KvCapacityError when pages are shared and too few are free; nothing changes then. */
  keep(stream: Stream, ids: ArrayLike<number>): void {
    const moved = Array.from(ids);
    const first = moved.findIndex((id, index) => id !== index);
    const start = first < 0 ? moved.length : first;
    const sources = moved.slice(start);
    const slots = sources.map((id) => stream.slot(id));
    const positions = sources.map((id) => stream.positions[id]);
    const origins = sources.map((id) => stream.origin(id));
    const numbers = names.map((name) => PageNumbers.find(this.pool, name)?.get(slots));
    const { pageSize } = this.pool;
    const whole = Math.floor(start / pageSize);
    const given = stream.pages.slice(whole).filter((page) => !this.pool.shared(page)).length;
    if (sources.length > 0) this.pool.expectFree(Math.ceil(ids.length / pageSize) - whole - given);
    // What moves is copied out before pages go back, so that a full pool can be compressed too.
    scope(() => {
      const originals = slots.length > 0 ? OriginalKeys.find(this.pool) : undefined;
      const original = originals?.read(slots);
      const taken = slots.length > 0 ? this.rows.read(slots) : undefined;
      stream.cut(start);
      const targets = stream.extend(positions, origins);
      if (taken) this.rows.write(taken, targets);
      if (taken && original) originals?.write({ k: taken.k, original }, targets);
      for (const [index, name] of names.entries()) PageNumbers.find(this.pool, name)?.set(targets, numbers[index]);
    });
  }

  /** Puts new entries in the place of others. @throws KvCapacityError when pages are shared and too few are free; nothing changes then. */
  overwrite(stream: Stream, ids: ArrayLike<number>, { k, v, positions, bias }: NewEntries): void {
    const entries = Array.from(ids);
    this.#own(stream, entries);
    const slots = entries.map((entry) => stream.slot(entry));
    scope(() => {
      this.rows.write({ k, v }, slots);
    });
    stream.place(entries, positions, { moved: false });
    this.clear(slots);
    if (bias && Array.from(bias).some((value) => value !== 0)) PageNumbers.of(this.pool, 'bias').set(slots, bias);
  }

  /**
   * One entry for several: means of their keys and of their values, and the bias that all of them have together.
   * @throws OptionError when weights are not non-negative numbers whose sum is positive, KvCapacityError when pages are shared and too few are free; nothing
   * changes then.
   */
  merge(stream: Stream, { into, from, weights }: EntryMerge): void {
    const entries = [into, ...Array.from(from)];
    const slots = entries.map((entry) => stream.slot(entry));
    const biases = PageNumbers.find(this.pool, 'bias')?.get(slots) ?? new Float32Array(slots.length);
    const received = PageNumbers.find(this.pool, 'received')?.get(slots);
    const most = biases.reduce((a, b) => Math.max(a, b), -Infinity);
    const masses = Array.from(biases, (bias) => (bias === -Infinity ? 0 : Math.exp(bias - most)));
    const shares = sharesOf(weights ? Array.from(weights) : masses);
    const mass = masses.reduce((a, b) => a + b, 0);
    const lowest = Math.min(...entries);
    this.pool.expectFree(stream.sharedPages(entriesFrom(lowest, stream.length)).length);
    const { backend } = this.pool;
    scope(() => {
      const factors = fromArray(backend, shares, [shares.length, 1, 1]);
      const mean = (x: Tensor): Tensor => reduce(mul(x, factors), 'sum', { axis: 0, keepDims: true });
      const { k, v } = this.rows.read(slots);
      const bias = Float32Array.of(mass > 0 ? most + Math.log(mass) : -Infinity);
      this.overwrite(stream, [into], { k: mean(k), v: mean(v), positions: [stream.positions[into]], bias });
    });
    if (received) PageNumbers.of(this.pool, 'received').set([stream.slot(into)], [received.reduce((a, b) => a + b, 0)]);
    const gone = new Set(entries.slice(1));
    const kept = entriesFrom(0, stream.length).filter((entry) => !gone.has(entry));
    this.keep(stream, kept);
  }

  /** Pages that {@link move} takes. */
  missingToMove(stream: Stream, positions: ArrayLike<number>): number {
    return stream.sharedPages(toMove(stream, positions)).length;
  }

  /** Moves entries to other positions: keys are turned by the whole distance from where they were written for. */
  move(stream: Stream, positions: ArrayLike<number>, rotate: RotateKeys): void {
    const entries = toMove(stream, positions);
    if (entries.length === 0) return;
    this.#own(stream, entries);
    const originals = OriginalKeys.of(this.pool);
    const { backend } = this.pool;
    // A key that was not moved yet is its own original.
    const [still, moved] = [true, false].map((first) =>
      entries.filter((entry) => (stream.origin(entry) === stream.positions[entry]) === first),
    );
    for (const some of [still, moved]) {
      if (some.length === 0) continue;
      const slots = some.map((entry) => stream.slot(entry));
      scope(() => {
        const original = some === still ? this.rows.read(slots).k : originals.read(slots);
        const by = some.map((entry) => positions[entry] - stream.origin(entry));
        originals.write({ k: rotate(original, fromArray(backend, by, [by.length], 'i32')), original }, slots);
      });
    }
    stream.place(
      entries,
      entries.map((entry) => positions[entry]),
      { moved: true },
    );
  }

  /** Copies the pages of entries that others have too. */
  #own(stream: Stream, entries: readonly number[]): void {
    const shared = stream.sharedPages(entries);
    this.pool.expectFree(shared.length);
    for (const index of shared) stream.own(index);
  }
}

function toMove(stream: Stream, positions: ArrayLike<number>): number[] {
  return entriesFrom(0, stream.length).filter((entry) => positions[entry] !== stream.positions[entry]);
}

function entriesFrom(first: number, length: number): number[] {
  return Array.from({ length: length - first }, (_, index) => first + index);
}

function sharesOf(weights: readonly number[]): number[] {
  const sum = weights.reduce((a, b) => a + b, 0);
  const bad = weights.findIndex((weight) => !(weight >= 0));
  if (bad >= 0 || !(sum > 0 && sum < Infinity))
    throw new OptionError(
      `StreamCache.merge: weights are ${weights.join(', ')}, they must be non-negative numbers with a positive sum`,
    );
  return weights.map((weight) => weight / sum);
}
