import {
  type AttributeSpecs,
  type DType,
  DTypeError,
  ExecutionError,
  formatShape,
  OptionError,
  ShapeError,
  type HostTensor,
  type TensorMeta,
} from '@filigree/core-tensor';
import { keyCapacity, queryLayouts } from '../ops/check.js';

/** Sizes of a call that scores queries against keys. */
export interface SelectionShape {
  readonly batch: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly lengthQ: number;
  readonly dim: number;
  /** Keys that a batch element can have. */
  readonly capacity: number;
}

/** Arguments that place queries and keys; shared by the selection kernels. */
export interface SelectionInputs<T> {
  readonly q: T;
  readonly k: T;
  readonly table?: T | undefined;
  readonly lengths?: T | undefined;
  readonly kvMap?: T | undefined;
}

const placement = {
  queryLayout: { type: 'enum', values: queryLayouts, default: 'bhld' },
  /** Keys of every batch element, where `lengths` is not given; −1: all. */
  lengthK: { type: 'number', default: -1 },
} as const;

/** An op's attributes and behind them those that place queries and keys. A pure call, as bundlers keep what spreads at the level of a module. */
export function withPlacement<const A extends AttributeSpecs>(attributes: A): A & typeof placement {
  return { ...attributes, ...placement };
}

/** Score of what a query does not see: below every score, and finite, so that a shader may compare it. */
export const hidden = -1e30;

/** Checks q, k, table, lengths and kvMap of a selection kernel; `keyTypes` are those that k may have. */
export function selectionShape(
  op: string,
  { q, k, table, lengths, kvMap }: SelectionInputs<TensorMeta>,
  { queryLayout, lengthK }: { readonly queryLayout: string; readonly lengthK: number },
  keyTypes: readonly DType[] = ['f32', 'f16'],
): SelectionShape {
  for (const [name, meta] of Object.entries({ q, k })) {
    if (meta.shape.length !== 4) throw new ShapeError(`${op}: ${name} is ${formatShape(meta.shape)}, it takes four axes`);
  }
  if (q.dtype !== 'f32') throw new DTypeError(`${op}: q is ${q.dtype}, it takes f32`);
  if (!keyTypes.includes(k.dtype)) throw new DTypeError(`${op}: k is ${k.dtype}, it takes ${keyTypes.join(' or ')}`);
  const [heads, lengthQ] = queryLayout === 'bhld' ? [q.shape[1], q.shape[2]] : [q.shape[2], q.shape[1]];
  const [batch, kvHeads] = [q.shape[0], k.shape[1]];
  if (k.shape[3] !== q.shape[3])
    throw new ShapeError(`${op}: q ${formatShape(q.shape)} and k ${formatShape(k.shape)} differ in the head dim`);
  if (table) {
    if (table.dtype !== 'i32' || table.shape.length !== 2 || table.shape[0] !== batch)
      throw new ShapeError(`${op}: table is ${table.dtype} ${formatShape(table.shape)}, it takes i32 [${batch}, pages]`);
  } else if (k.shape[0] !== batch) {
    throw new ShapeError(`${op}: k has ${k.shape[0]} pages and no table for a batch of ${batch}`);
  }
  if (lengths && (lengths.dtype !== 'i32' || lengths.shape.join() !== `${batch},2`))
    throw new ShapeError(`${op}: lengths is ${lengths.dtype} ${formatShape(lengths.shape)}, it takes i32 [${batch}, 2]`);
  if (kvMap && (kvMap.dtype !== 'i32' || kvMap.shape.join() !== String(heads)))
    throw new ShapeError(`${op}: kvMap is ${kvMap.dtype} ${formatShape(kvMap.shape)}, it takes i32 [${heads}]`);
  if (!kvMap && (kvHeads === 0 || heads % kvHeads !== 0))
    throw new ShapeError(`${op}: ${heads} query heads do not share ${kvHeads} key-value heads`);
  const capacity = keyCapacity(k, table);
  if (!Number.isInteger(lengthK) || lengthK < -1 || lengthK > capacity)
    throw new OptionError(`${op}: lengthK is ${lengthK}, k holds ${capacity} keys`);
  return { batch, heads, kvHeads, lengthQ, dim: q.shape[3], capacity };
}

/** A positive whole number, or an OptionError that names the attribute. */
export function expectPositive(op: string, attributes: Readonly<Record<string, number>>): void {
  for (const [name, value] of Object.entries(attributes))
    if (!Number.isInteger(value) || value < 1) throw new OptionError(`${op}: ${name} is ${value}, it takes a positive integer`);
}

/** Queries and keys of a batch element. Query i is at position lenK − lenQ + i. */
export interface ElementLengths {
  readonly lenQ: number;
  readonly lenK: number;
}

/** {@link SelectionShape} with the values of table, lengths and kvMap: what definitions walk through. */
export interface SelectionGeometry extends SelectionShape {
  readonly elements: readonly ElementLengths[];
  kvHead(head: number): number;
  /** The query's channels. */
  query(batch: number, head: number, index: number): ArrayLike<number>;
  /** Channels of the key at `position`. */
  key(batch: number, kvHead: number, position: number): ArrayLike<number>;
}

/** Reads where queries and keys of a call lie. Throws ExecutionError for lengths or heads outside of the arguments. */
export function selectionGeometry(
  op: string,
  io: SelectionInputs<HostTensor>,
  attributes: { readonly queryLayout: string; readonly lengthK: number },
  keyTypes?: readonly DType[],
): SelectionGeometry {
  const shape = selectionShape(op, io, attributes, keyTypes);
  const { batch, heads, kvHeads, lengthQ, dim, capacity } = shape;
  const { q, k, table, lengths, kvMap } = io;
  const elements = Array.from({ length: batch }, (_, index): ElementLengths => {
    const lenQ = lengths ? lengths.data[2 * index] : lengthQ;
    const lenK = lengths ? lengths.data[2 * index + 1] : attributes.lengthK < 0 ? capacity : attributes.lengthK;
    if (lenQ < 0 || lenQ > lengthQ || lenK < 0 || lenK > capacity)
      throw new ExecutionError(`${op}: lengths (${lenQ}, ${lenK}) are outside of ${lengthQ} queries and ${capacity} keys`);
    return { lenQ, lenK };
  });
  for (const kvHead of kvMap?.data ?? [])
    if (kvHead < 0 || kvHead >= kvHeads) throw new ExecutionError(`${op}: kvMap names head ${kvHead} of ${kvHeads}`);
  const headsFirst = attributes.queryLayout === 'bhld';
  const pageSize = k.shape[2];
  return {
    ...shape,
    elements,
    kvHead: (head) => kvMap?.data[head] ?? Math.floor(head / (heads / kvHeads)),
    query(b, head, index) {
      const row = headsFirst ? (b * heads + head) * lengthQ + index : (b * lengthQ + index) * heads + head;
      return q.data.subarray(row * dim, (row + 1) * dim);
    },
    key(b, kvHead, position) {
      const page = table ? table.data[b * table.shape[1] + Math.floor(position / pageSize)] : b;
      const row = (page * kvHeads + kvHead) * pageSize + (table ? position % pageSize : position);
      return k.data.subarray(row * dim, (row + 1) * dim);
    },
  };
}

/** Σ a_d · b_d in f64. */
export function dot(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let sum = 0;
  for (let channel = 0; channel < a.length; channel++) sum += a[channel] * b[channel];
  return sum;
}
