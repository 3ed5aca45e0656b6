import type { Random } from '@filigree/core-tensor';
import { fromArray, mul, reduce, rope, scope, type Tensor } from '@filigree/core-tensor';
import type { RotateKeys } from '@filigree/kv-cache';
import { lost, pick, rows, sizes, tensors, written, type Expected, type Held } from './stream-oracle.js';
import { rounded } from './rounded.js';

/** Turns keys of four channels. */
export const rotate: RotateKeys = (x, by) =>
  rope(x, by, fromArray(x.backend, Float32Array.of(1, 0.1), [2]), { pairing: 'half' });

/** Ascending ids of some entries. */
function someIds(random: Random, length: number): number[] {
  const share = random.nextFloat();
  return Array.from({ length }, (_, id) => id).filter(() => random.nextFloat() < share);
}

const biasOf = (random: Random): number => pick(random, [0, 0, -Infinity, Math.fround(random.nextNormal())]);

export function setNumbers(held: Expected, layer: number, head: number, random: Random): void {
  const { cache, heads, beside } = held;
  const list = heads[layer][head];
  if (random.nextFloat() < 0.5) {
    const bias = random.nextFloat() < 0.2 ? null : list.map(() => biasOf(random));
    cache.setBias(layer, head, bias);
    beside.bias ||= bias?.some((value) => value !== 0) ?? false;
    heads[layer][head] = list.map((entry, index) => ({ ...entry, bias: bias?.[index] ?? 0 }));
  } else {
    const received = list.map(() => Math.fround(random.nextFloat()));
    cache.setReceived(layer, head, received);
    beside.received ||= received.some((value) => value !== 0);
    heads[layer][head] = list.map((entry, index) => ({ ...entry, received: received[index] }));
  }
}

export function overwrite(held: Expected, layer: number, head: number, random: Random): void {
  const { cache, heads, ends, beside } = held;
  const list = heads[layer][head];
  const ids = someIds(random, list.length);
  const { dtype } = cache.pool;
  const [k, v] = [rows(random, ids.length, sizes.kDim, dtype), rows(random, ids.length, sizes.vDim, dtype)];
  const positions = ids.map(() => random.nextInt(ends[layer] + 3));
  const bias = random.nextFloat() < 0.5 ? undefined : ids.map(() => biasOf(random));
  scope(() => {
    cache.overwrite(layer, head, ids, { ...tensors(held, { k, v }, [ids.length, 1], 'f32'), positions, bias });
  });
  if (ids.length === 0) return;
  beside.bias ||= bias?.some((value) => value !== 0) ?? false;
  for (const [index, id] of ids.entries()) list[id] = written(positions[index], k[index], v[index], bias?.[index] ?? 0);
  ends[layer] = Math.max(ends[layer], ...positions.map((position) => position + 1));
  lost(held, layer);
}

/** Makes one entry of some. Means are those of the same ops over the rows that the list has. */
export async function merge(held: Expected, layer: number, head: number, random: Random): Promise<void> {
  const { cache, heads, beside } = held;
  const list = heads[layer][head];
  const ids = someIds(random, list.length);
  if (ids.length === 0) return;
  const into = pick(random, ids);
  const from = ids.filter((id) => id !== into);
  const some = [into, ...from].map((id) => list[id]);
  const most = Math.max(...some.map(({ bias }) => bias));
  const masses = some.map(({ bias }) => (bias === -Infinity ? 0 : Math.exp(bias - most)));
  const weights = most === -Infinity || random.nextFloat() < 0.5 ? some.map(() => random.nextFloat() + 0.01) : undefined;
  const total = (weights ?? masses).reduce((a, b) => a + b, 0);
  const factors = (weights ?? masses).map((weight) => weight / total);
  cache.merge(layer, head, { into, from, weights });
  if (from.length === 0) return;
  const mean = async (name: 'k' | 'v'): Promise<number[]> => {
    const dim = some[0][name].length;
    const found = scope(() => {
      const all = fromArray(cache.backend, Float32Array.from(some.flatMap((entry) => entry[name])), [some.length, 1, dim]);
      return reduce(mul(all, fromArray(cache.backend, factors, [some.length, 1, 1])), 'sum', { axis: 0, keepDims: true });
    });
    return rounded(found, cache.pool.dtype);
  };
  const mass = masses.reduce((a, b) => a + b, 0);
  const bias = Math.fround(mass > 0 ? most + Math.log(mass) : -Infinity);
  const received = Math.fround(some.reduce((sum, entry) => sum + entry.received, 0));
  beside.bias ||= bias !== 0;
  list[into] = written(list[into].position, await mean('k'), await mean('v'), bias, received);
  heads[layer][head] = list.filter((_, id) => !from.includes(id));
  lost(held, layer);
}

export async function reposition(held: Expected, layer: number, random: Random): Promise<void> {
  const { cache, heads, ends, floors, beside } = held;
  const { dtype } = cache.pool;
  const contiguous = random.nextFloat() < 0.5;
  const lists = heads[layer].map((list) => list.map((_, entry) => (contiguous ? entry : random.nextInt(40))));
  cache.reposition(layer, contiguous ? 'contiguous' : lists, rotate);
  for (const [head, list] of heads[layer].entries())
    for (const [entry, own] of list.entries()) {
      const position = lists[head][entry];
      if (position === own.position) continue;
      beside.originals = true;
      list[entry] = { ...own, position, k: await turned(held, own, position, dtype) };
    }
  ends[layer] = Math.max(0, ...lists.flat().map((position) => position + 1));
  floors[layer] = ends[layer];
}

async function turned(
  { cache }: Expected,
  { original, origin }: Held,
  position: number,
  dtype: 'f32' | 'f16',
): Promise<number[]> {
  const found = scope((): Tensor => {
    const key = fromArray(cache.backend, Float32Array.from(original), [1, 1, sizes.kDim]);
    return rotate(key, fromArray(cache.backend, [position - origin], [1], 'i32'));
  });
  return rounded(found, dtype);
}

export function commit({ cache, floors }: Expected, position: number): void {
  cache.commit(position);
  for (const [layer, floor] of floors.entries()) floors[layer] = Math.max(floor, position);
}
