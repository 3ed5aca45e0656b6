import {
  DTypeError,
  ExecutionError,
  formatShape,
  OptionError,
  ShapeError,
  type HostTensor,
  type TensorMeta,
} from '@filigree/core-tensor';

/** Queries and keys of one batch element. */
export interface Lengths {
  readonly queries: number;
  readonly keys: number;
}

/** Lengths of a batch element: row (lenQ, lenK) of `lengths`, or everything there is. */
export function lengthsOf(op: string, lengths: HostTensor | undefined, batch: number, all: Lengths): Lengths {
  if (!lengths) return all;
  const [queries, keys] = [lengths.data[2 * batch], lengths.data[2 * batch + 1]];
  if (queries < 0 || queries > all.queries || keys < 0 || keys > all.keys)
    throw new ExecutionError(`${op}: lengths (${queries}, ${keys}) are outside of ${all.queries} queries and ${all.keys} keys`);
  return { queries, keys };
}

/** Position of the last query of a row block; undefined where all its queries are beyond lenQ. */
export function lastPosition(block: number, blockQ: number, { queries, keys }: Lengths): number | undefined {
  if (block * blockQ >= queries) return undefined;
  return keys - queries + Math.min((block + 1) * blockQ, queries) - 1;
}

/** Key blocks that some query of a row block may see: the first so many. */
export function visibleBlocks(block: number, blockQ: number, blockK: number, lengths: Lengths): number {
  const last = lastPosition(block, blockQ, lengths);
  return last === undefined || last < 0 ? 0 : Math.floor(last / blockK) + 1;
}

/** Words for so many bits. */
export const wordsOf = (bits: number): number => Math.ceil(bits / 32);

export function hasBit(words: ArrayLike<number>, at: number, bit: number): boolean {
  return ((words[at + (bit >>> 5)] >>> (bit & 31)) & 1) === 1;
}

/** @throws ShapeError, DTypeError naming the argument. */
export function expectArgument(
  op: string,
  name: string,
  meta: TensorMeta | undefined,
  dtype: 'f32' | 'i32' | 'u32',
  shape: readonly (number | readonly number[])[],
): void {
  if (!meta) return;
  if (meta.dtype !== dtype) throw new DTypeError(`${op}: ${name} is ${meta.dtype}, it takes ${dtype}`);
  const fits =
    meta.shape.length === shape.length &&
    shape.every((wanted, axis) => [wanted].flat().includes(-1) || [wanted].flat().includes(meta.shape[axis]));
  if (!fits) {
    const wanted = shape.map((size) => [size].flat().join(' or ').replace('-1', 'any'));
    throw new ShapeError(`${op}: ${name} is ${formatShape(meta.shape)}, it takes [${wanted.join(', ')}]`);
  }
}

/** @throws OptionError when an attribute is no integer of at least `least`. */
export function expectIntegers(op: string, attributes: Readonly<Record<string, number>>, least: number): void {
  for (const [name, value] of Object.entries(attributes)) {
    if (!Number.isInteger(value) || value < least)
      throw new OptionError(`${op}: ${name} is ${value}, it must be an integer of at least ${least}`);
  }
}

/** Key-value head of a query head: by `kvMap`, or in contiguous groups. */
export function kvHeadOf(kvMap: HostTensor | undefined, head: number, heads: number, kvHeads: number): number {
  const kvHead = kvMap ? kvMap.data[head] : Math.floor((head * kvHeads) / heads);
  if (kvHead < 0 || kvHead >= kvHeads)
    throw new ExecutionError(`kvMap sends head ${head} to ${kvHead}, there are ${kvHeads} key-value heads`);
  return kvHead;
}

/** Checks that query heads share key-value heads, in groups or by a map. */
export function expectHeads(op: string, heads: number, kvHeads: number, kvMap: TensorMeta | undefined): void {
  expectArgument(op, 'kvMap', kvMap, 'i32', [heads]);
  if (kvHeads === 0 || (!kvMap && heads % kvHeads !== 0))
    throw new ShapeError(`${op}: ${heads} query heads do not share ${kvHeads} key-value heads`);
}
