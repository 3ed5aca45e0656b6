import {
  add,
  binary,
  cast,
  div,
  fromArray,
  gatherRows,
  matmul,
  narrow,
  permute,
  reduce,
  reshape,
  slice,
  topK,
  writeSlice,
  type Tensor,
} from '@filigree/core-tensor';
import type { SelectContext } from '../selector.js';
import { probeSums } from './probe-sums.js';
import { constant, stepSizes } from './step.js';

/** What is known of one sequence of a layer. Tensors are written in place. */
export interface BlockRepresentatives {
  /** f32 [1, Hq, capacity]: attention that keys received while they were in the window. */
  readonly received: Tensor;
  /** f32 [Hq, blocks, D]: the mean of the representatives of every block that has left the window, turned back to position 0. */
  readonly means: Tensor;
  /** Blocks that have. */
  readonly closed: number;
}

export interface RepresentativeOptions {
  /** Keys of a block. */
  readonly block: number;
  /** Newest keys, whose attention is observed. */
  readonly local: number;
  /** Representatives of a block: its keys that received most. Equal ones count alike, so that those of a block which nobody looked at are all its keys. */
  readonly repr: number;
}

/** Queries whose attention is added up at a time, and keys that are turned back at a time. */
const [queryRows, keyRows] = [256, 2048];

/** Nothing is known yet, or of fewer keys than there is room for now. */
export function withRoom(context: SelectContext, block: number, known: BlockRepresentatives | undefined): BlockRepresentatives {
  const { heads, dim, capacity } = stepSizes(context);
  if (known && known.received.shape[2] >= capacity) return known;
  const zeros = (shape: readonly number[]): Tensor =>
    constant(context, new Float32Array(shape.reduce((a, b) => a * b, 1)), shape);
  const received = zeros([1, heads, capacity]);
  const means = zeros([heads, Math.ceil(capacity / block), dim]);
  if (known) {
    writeSlice(received, known.received, { axis: 2, start: 0 });
    writeSlice(means, known.means, { axis: 1, start: 0 });
  }
  return { received, means, closed: known?.closed ?? 0 };
}

/**
 * Adds the attention of the step's queries of an element to what its keys received: softmax over the `local` keys before the first of some hundred queries, in whole
 * pages of the cache, and those since. Reads the window's keys; 2 · 2 · lenQ · local · D operations per query head.
 */
export function observe(context: SelectContext, element: number, known: BlockRepresentatives, local: number): void {
  const { k, kvMap, scale, softcap, queryLayout, lenQ, lenK = [] } = context;
  const size = k.shape[2];
  const first = lenK[element] - lenQ[element];
  for (let start = first, end = start; start < lenK[element]; start = end) {
    end = Math.min(lenK[element], (Math.floor(start / queryRows) + 1) * queryRows);
    const page = Math.floor(Math.max(0, start - local + 1) / size);
    const { columns } = probeSums(queriesOf(context, element, start - first, end - start), k, {
      rows: end - start,
      table: tableOf(context, element, page, Math.ceil(end / size)),
      lengths: constant(context, [end - start, end - page * size], [1, 2], 'i32'),
      ...{ kvMap, scale, softcap, queryLayout },
    });
    const before = slice(known.received, [0, 0, page * size], columns.shape);
    writeSlice(known.received, add(before, columns), { axis: 2, start: page * size });
  }
}

/** Finds the representatives of the blocks of an element that have left the window since. */
export function closeBlocks(
  context: SelectContext,
  element: number,
  known: BlockRepresentatives,
  { block, local, repr }: RepresentativeOptions,
): BlockRepresentatives {
  const { heads, dim } = stepSizes(context);
  const closed = Math.max(0, Math.floor(((context.lenK?.[element] ?? 0) - local) / block));
  const atOnce = Math.max(1, Math.floor(keyRows / block));
  for (let from = known.closed; from < closed; from += atOnce) {
    const count = Math.min(atOnce, closed - from);
    const [rows, length] = [heads * count, count * block];
    const keys = keysAtZero(context, element, from * block, length);
    const received = reshape(slice(known.received, [0, 0, from * block], [1, heads, length]), [rows, block]);
    const most = Math.min(repr, block);
    const least = slice(topK(received, most).values, [0, most - 1], [rows, 1]);
    const chosen = binary(received, least, 'ge');
    const weights = div(chosen, reduce(chosen, 'sum', { axis: 1, keepDims: true }));
    const means = matmul(reshape(weights, [rows, 1, block]), reshape(keys, [rows, block, dim]));
    writeSlice(known.means, reshape(means, [heads, count, dim]), { axis: 1, start: from });
  }
  return { ...known, closed };
}

/**
 * f32 [1, 1, 1, blocks]: query · mean of the representatives, summed over the heads, of an element with one query, whose distance to every block is `local`.
 * Blocks that have not left the window score anything.
 */
export function representativeScores(
  context: SelectContext,
  element: number,
  { means }: BlockRepresentatives,
  local: number,
): Tensor {
  const { heads, dim } = stepSizes(context);
  const query = queriesOf(context, element, 0, 1);
  const position = (context.lenK?.[element] ?? 0) - 1;
  const turned = context.rotate?.(query, constant(context, [local - position], [1], 'i32')) ?? query;
  // One query, so that both layouts are the same.
  const products = matmul(reshape(turned, [heads, 1, dim]), means, { transposeB: true });
  return reshape(reduce(products, 'sum', { axis: 0 }), [1, 1, 1, means.shape[1]]);
}

/** Queries of one element, in the layout of the context. */
function queriesOf(context: SelectContext, element: number, start: number, count: number): Tensor {
  const { heads, dim } = stepSizes(context);
  return context.queryLayout === 'bhld'
    ? slice(context.q, [element, 0, start, 0], [1, heads, count, dim])
    : slice(context.q, [element, start, 0, 0], [1, count, heads, dim]);
}

/** i32 [1, n]: pages `from … to` of an element. */
function tableOf(context: SelectContext, element: number, from: number, to: number): Tensor {
  // Without a table every element is one page.
  if (!context.table) return constant(context, [element], [1, 1], 'i32');
  return slice(context.table, [element, from], [1, to - from]);
}

/** f32 [Hq, length, D]: the keys of every query head from `start` on, turned back to position 0. */
function keysAtZero(context: SelectContext, element: number, start: number, length: number): Tensor {
  const { k, kvMap, queryLayout, rotate } = context;
  const { heads, kvHeads, dim } = stepSizes(context);
  const size = k.shape[2];
  const page = Math.floor(start / size);
  const table = tableOf(context, element, page, Math.ceil((start + length) / size));
  const pages = gatherRows(k, reshape(table, [table.size]));
  const values = pages.dtype === 'f32' ? pages : cast(pages, 'f32');
  const rows = reshape(permute(values, [0, 2, 1, 3]), [table.size * size, kvHeads, dim]);
  const tokens = narrow(rows, start - page * size, length);
  const byHead = (x: Tensor): Tensor => permute(x, [1, 0, 2]);
  const back = (x: Tensor): Tensor => {
    const by = Int32Array.from({ length }, (_, index) => -(start + index));
    return rotate ? reshape(rotate(reshape(x, [1, ...x.shape]), constant(context, by, [length], 'i32')), x.shape) : x;
  };
  const keys = queryLayout === 'bhld' ? back(byHead(tokens)) : byHead(back(tokens));
  const group = heads / kvHeads;
  const owners =
    kvMap ??
    fromArray(
      k.backend,
      Array.from({ length: heads }, (_, head) => Math.floor(head / group)),
      [heads],
      'i32',
    );
  return gatherRows(keys, owners);
}
