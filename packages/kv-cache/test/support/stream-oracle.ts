import { f16ToNumber, fromArray, numberToF16, scope, type Random, type Tensor } from '@filigree/core-tensor';
import type { StreamCache } from '@filigree/kv-cache';
import { appendOp, type RawKvType } from '@filigree/kv-cache';

export const sizes = { layers: 2, kvHeads: 2, kDim: 4, vDim: 2 };
export const pageSize = 4;

export interface Entry {
  readonly position: number;
  readonly k: readonly number[];
  readonly v: readonly number[];
  readonly bias: number;
  readonly received: number;
}

/** An entry, and what its key was when it was written, and for which position. */
export interface Held extends Entry {
  readonly original: readonly number[];
  readonly origin: number;
}

/** What a pool has memory for beside keys and values, from the first use on. */
export interface Beside {
  bias: boolean;
  received: boolean;
  originals: boolean;
}

/** A cache and what it should hold, as lists: [layer][head] of entries. */
export interface Expected {
  readonly cache: StreamCache;
  readonly heads: Held[][][];
  readonly ends: number[];
  readonly floors: number[];
  readonly beside: Beside;
}

export function written(position: number, k: readonly number[], v: readonly number[], bias = 0, received = 0): Held {
  return { position, k, v, bias, received, original: k, origin: position };
}

/** Where a cache can go back to. */
export const floorOf = ({ floors }: Expected): number => Math.max(...floors);

/** Entries of a layer were lost. */
export function lost({ floors, ends }: Expected, layer: number): void {
  floors[layer] = Math.max(floors[layer], ends[layer]);
}

export function emptyOracle(cache: StreamCache): Expected {
  const heads = Array.from({ length: sizes.layers }, () => Array.from({ length: sizes.kvHeads }, (): Held[] => []));
  const [ends, floors] = [0, 0].map(() => new Array<number>(sizes.layers).fill(0));
  return { cache, heads, ends, floors, beside: { bias: false, received: false, originals: false } };
}

export function forked({ cache, heads, ends, floors, beside }: Expected): Expected {
  const lists = heads.map((layer) => layer.map((list) => [...list]));
  return { cache: cache.fork(), heads: lists, ends: [...ends], floors: [...floors], beside };
}

export function pick<T>(random: Random, items: readonly T[]): T {
  return items[random.nextInt(items.length)];
}

/** Random rows [a, b, dim] as the type of the cache holds them. */
export function rows(random: Random, count: number, dim: number, dtype: RawKvType): number[][] {
  const round = dtype === 'f16' ? (value: number) => f16ToNumber(numberToF16(value)) : Math.fround;
  return Array.from({ length: count }, () => Array.from({ length: dim }, () => round(random.nextNormal())));
}

interface Rows {
  readonly k: readonly number[][];
  readonly v: readonly number[][];
}

export function tensors(
  { cache }: Expected,
  { k, v }: Rows,
  axes: readonly [number, number],
  dtype: RawKvType,
): { k: Tensor; v: Tensor } {
  const tensor = (data: readonly number[][], dim: number): Tensor =>
    fromArray(cache.backend, data.flat(), [...axes, dim], dtype);
  return { k: tensor(k, sizes.kDim), v: tensor(v, sizes.vDim) };
}

/** Fills a layer of a cache; the oracle follows when the cache did not refuse. */
export function fill(
  held: Expected,
  layer: number,
  random: Random,
  { length, source }: { length: number; source: RawKvType },
): void {
  const { cache, heads, ends } = held;
  const { kvHeads, kDim, vDim } = sizes;
  // What the f16 of either side rounds, the other side does not round again.
  const dtype = cache.pool.dtype === 'f16' ? 'f16' : source;
  const data = { k: rows(random, kvHeads * length, kDim, dtype), v: rows(random, kvHeads * length, vDim, dtype) };
  const share = random.nextFloat() * 1.5;
  const kept = heads[layer].map(() => Array.from({ length }, (_, id) => id).filter(() => random.nextFloat() < share));
  const numbers = (share: number): Float32Array[] =>
    heads[layer].map(() => Float32Array.from({ length }, () => (random.nextFloat() < share ? random.nextNormal() : 0)));
  const bias = numbers(pick(random, [0, 0, 0.3]));
  const received = numbers(pick(random, [0, 0, 0.3]));
  scope(() => {
    cache.fill(layer, tensors(held, data, [kvHeads, length], source), kept, { bias, received });
  });
  const some = (lists: readonly Float32Array[]): boolean => kept.some((ids, head) => ids.some((id) => lists[head][id] !== 0));
  held.beside.bias ||= some(bias);
  held.beside.received ||= some(received);
  for (const [head, ids] of kept.entries())
    heads[layer][head] = ids.map((id) => {
      const at = head * length + id;
      return written(id, data.k[at], data.v[at], bias[head][id], received[head][id]);
    });
  ends[layer] = Math.max(ends[layer], length);
  if (kept.some((ids) => ids.length < length)) lost(held, layer);
}

/** Appends `count` tokens to one layer. */
export function append(held: Expected, layer: number, random: Random, count: number): void {
  const data = stepRows(held, random, count);
  scope(() => {
    held.cache.append(layer, tensors(held, data, [count, sizes.kvHeads], 'f32'));
  });
  appended(held, layer, data);
}

/** A step of `count` tokens in all layers, by ops of the caller. */
export function reserve(held: Expected, random: Random, count: number): void {
  const { cache } = held;
  const { slots } = cache.reserve(count);
  for (let layer = 0; layer < sizes.layers; layer++) {
    const data = stepRows(held, random, count);
    scope(() => {
      const { k, v } = tensors(held, data, [count * sizes.kvHeads, 1], 'f32');
      const own = slots.view([slots.shape[1]], slots.offset + layer * slots.shape[1]);
      appendOp({ keyPages: cache.pool.keys[0], valuePages: cache.pool.values[0], k, v, slots: own }, {});
    });
    appended(held, layer, data);
  }
}

function stepRows({ cache }: Expected, random: Random, count: number): Rows {
  const { kvHeads, kDim, vDim } = sizes;
  const { dtype } = cache.pool;
  return { k: rows(random, count * kvHeads, kDim, dtype), v: rows(random, count * kvHeads, vDim, dtype) };
}

function appended({ heads, ends }: Expected, layer: number, { k, v }: Rows): void {
  const { kvHeads } = sizes;
  for (const [row, key] of k.entries())
    heads[layer][row % kvHeads].push(written(ends[layer] + Math.floor(row / kvHeads), key, v[row]));
  ends[layer] += k.length / kvHeads;
}

/** Drops entries of a head at random. */
export function keep(held: Expected, layer: number, head: number, random: Random): void {
  const list = held.heads[layer][head];
  const share = random.nextFloat() * 1.3;
  const first = random.nextInt(list.length + 1);
  const ids = Array.from(list, (_, id) => id).filter((id) => id < first || random.nextFloat() < share);
  held.cache.keep(layer, head, ids);
  held.heads[layer][head] = ids.map((id) => list[id]);
  if (ids.length < list.length) lost(held, layer);
}

export function truncate(held: Expected, to: number): void {
  held.cache.truncate(to);
  for (const lists of held.heads)
    for (const [head, list] of lists.entries()) lists[head] = list.filter(({ position }) => position < to);
  for (const [layer, end] of held.ends.entries()) held.ends[layer] = Math.min(end, to);
}

/** Entries of a layer per head, read from the pages through the table of its view. */
export async function contents(cache: StreamCache, layer: number): Promise<Entry[][]> {
  const { k, v, table, lengths, bias } = cache.view(layer);
  const biases = await bias?.readNumbers();
  const pages = (await table?.readNumbers()) ?? [];
  const width = table?.shape[1] ?? 0;
  const [keys, values] = [await k.readNumbers(), await v.readNumbers()];
  const row = (data: ArrayLike<number>, slot: number, dim: number): number[] =>
    Array.from({ length: dim }, (_, channel) => data[slot * dim + channel]);
  return Array.from({ length: cache.kvHeads }, (_, head) => {
    const [positions, received] = [cache.positions(layer, head), cache.received(layer, head)];
    return Array.from({ length: lengths[head] }, (_entry, entry) => {
      const slot = pages[head * width + Math.floor(entry / pageSize)] * pageSize + (entry % pageSize);
      return {
        position: positions[entry],
        k: row(keys, slot, sizes.kDim),
        v: row(values, slot, sizes.vDim),
        bias: biases?.[slot] ?? 0,
        received: received[entry],
      };
    });
  });
}

/** What a cache should give back of a layer. */
export function entriesOf(lists: readonly (readonly Held[])[]): Entry[][] {
  return lists.map((list) => list.map(({ position, k, v, bias, received }) => ({ position, k, v, bias, received })));
}

/** What callers can ask without a copy. */
export function state({ cache }: Expected): unknown {
  const positions = Array.from({ length: sizes.layers * sizes.kvHeads }, (_, index) =>
    Array.from(cache.positions(Math.floor(index / sizes.kvHeads), index % sizes.kvHeads)),
  );
  return { positions, end: cache.positionsEnd, bytes: cache.bytes(), free: cache.pool.freePages };
}
