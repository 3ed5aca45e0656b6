import {
  add,
  binary,
  ExecutionError,
  mul,
  reshape,
  scope,
  slice,
  sub,
  unary,
  writeSlice,
  type Tensor,
} from '@filigree/core-tensor';
import { checkIntegers, defineMethod } from '../method.js';
import { attentionStats } from '../ops/attention-stats.js';
import { mergeAttention } from '../ops/merge.js';
import { plannedAttention } from '../ops/planned-attention.js';
import {
  chunkSegments,
  noKeys,
  olderChunks,
  queryPositions,
  rangesByRow,
  rowsWithinChunks,
  turnedQueries,
  type ChunkPositions,
  type ChunkSegment,
} from '../select/chunk-segments.js';
import { lowerSelection } from '../select/lower-selection.js';
import { rowStats } from '../select/row-stats.js';
import { selectRow } from '../select/select-row.js';
import { constant, isShort, stepSizes } from '../select/step.js';
import type { SelectContext, SelectionPart, Selector } from '../selector.js';
import { checkedChunk, dualChunk } from './dual-chunk.js';
import { verticalSlash } from './minference.js';

export interface DualChunkSparseOptions extends ChunkPositions {
  /** Keys that all queries see; at least 30, and 30 stands for 130. */
  readonly vertical: number;
  /** Distances at which all queries look back; at least 50. */
  readonly slash: number;
  /** Queries at the end of the step that are asked. */
  readonly lastQ: number;
  /** First keys that are taken whatever they score; they count among `vertical`. */
  readonly sinkTokens: number;
  /** Least distances that are taken whatever they score; they count among `slash`. */
  readonly localDiagonals: number;
  /** Up to so many keys it is dense dual chunk attention. */
  readonly sparseAbove: number;
}

/**
 * The sparse attention of Qwen2.5-1M: vertical-slash heads over dual chunk positions. The last queries of the step are asked as in MInference, but with positions
 * that nothing bounds: p mod c + c for the chunk before their own, which is the true distance, and p mod c + chunkSize for older ones, all under one softmax. What
 * they choose, columns and true distances, is cut along the chunks: every segment of {@link dualChunk} is executed with its own rotation over the keys it has of the choice.
 *
 * Decoding, steps of up to `sparseAbove` keys, and steps that begin where row blocks of 16 would reach across a border between chunks are dense dual chunk
 * attention. Layers without rotary positions are vertical-slash alone. Segments are executed one after another, so that one plan is held at a time.
 *
 * "Qwen2.5-1M Technical Report", arXiv:2501.15383. Which heads have how many columns and distances, its authors calibrate per head (a plan of heads); recall against
 * dense dual chunk attention is exp(lse − dense lse).
 *
 * @throws OptionError when an option is out of its range; ExecutionError when the host does not know lengths, or elements of a batch begin or end at different positions.
 */
export function dualChunkSparse(options: DualChunkSparseOptions): Selector {
  const { vertical, slash, lastQ, sinkTokens, localDiagonals, sparseAbove } = options;
  const chunk = checkedChunk('dual-chunk-sparse', options);
  checkIntegers('dual-chunk-sparse', { vertical, slash, sinkTokens, localDiagonals, sparseAbove });
  checkIntegers('dual-chunk-sparse', { lastQ }, 1);
  const dense = dualChunk(options).select;
  const plain = verticalSlash({ ...options, vertical: raised(vertical), denseBelow: sparseAbove });
  return {
    needsLengths: true,
    select(context, state) {
      const short = context.promptEnd === undefined || isShort(context, sparseAbove);
      if (!context.rotate) return short ? 'dense' : plain.select(context, state);
      if (short) return dense(context, state);
      const blockQ = rowsWithinChunks(context, chunk);
      if (blockQ < 16) return dense(context, state);
      const chosen = scope(() => choose(context, options));
      return { parts: [attendSegments(context, options, chosen, blockQ)] };
    },
    dense: (context) => dense(context, undefined),
  };
}

/** Configurations with 30 columns mean 100 beside the first 30. */
function raised(vertical: number): number {
  return vertical === 30 ? 130 : vertical;
}

/** Bits of columns and slashes, and how many of them there are at most. */
interface Chosen {
  readonly columns: Tensor;
  readonly slashes: Tensor;
  readonly maxColumns: number;
  readonly maxSlashes: number;
}

/** Columns and distances that hold most of the attention of the last queries. */
function choose(context: SelectContext, options: DualChunkSparseOptions): Chosen {
  const { vertical, slash, lastQ, sinkTokens, localDiagonals } = options;
  const { batch, heads, lengthQ, capacity } = stepSizes(context);
  const { lengths } = context;
  const [maxColumns, maxSlashes] = [Math.max(raised(vertical), sinkTokens, 30), Math.max(slash, localDiagonals, 50)];
  const asked = askedSegments(lastQueries(context, lastQ), options);
  const best = (along: 'keys' | 'distances', topK: number, sinks: number): Tensor =>
    scope(() => {
      const sums = reshape(attentionOf(asked, along), [batch, heads, 1, capacity]);
      return selectRow(sums, { lengths, topK, sinks, blockQ: lengthQ }).bits;
    });
  return {
    columns: best('keys', maxColumns, sinkTokens),
    slashes: best('distances', maxSlashes, localDiagonals),
    ...{ maxColumns, maxSlashes },
  };
}

/** The step of the last queries alone. */
function lastQueries(context: SelectContext, lastQ: number): SelectContext {
  const { q, queryLayout, lenQ, lenK } = context;
  const count = Math.min(lastQ, lenQ[0]);
  if (lenK === undefined || lenQ.some((length) => length !== lenQ[0]))
    throw new ExecutionError(
      `dual-chunk-sparse: elements of the batch have ${lenQ.join(', ')} queries, they must have the same number`,
    );
  const axis = queryLayout === 'bhld' ? 2 : 1;
  const of = <T>(all: readonly T[], own: T): T[] => all.map((value, index) => (index === axis ? own : value));
  return {
    ...context,
    q: slice(q, of([0, 0, 0, 0], lenQ[0] - count), of(q.shape, count)),
    lenQ: lenQ.map(() => count),
    lengths: constant(
      context,
      lenK.flatMap((length) => [count, length]),
      [lenK.length, 2],
      'i32',
    ),
  };
}

/** The last queries as they look at some of the keys, and log-sum-exps over all keys. */
interface Asked {
  readonly context: SelectContext;
  /** `keys`: those that the newest query sees; older queries see them or none. */
  readonly segments: readonly { readonly q: Tensor; readonly plan: Tensor; readonly keys: readonly [number, number] }[];
  readonly lse: Tensor;
}

function askedSegments(context: SelectContext, options: ChunkPositions): Asked {
  const { chunkSize, localSize } = options;
  const chunk = chunkSize - localSize;
  const { lengthQ, heads, capacity } = stepSizes(context);
  const { k, table, scale, softcap, queryLayout, lengths, kvMap } = context;
  const blockQ = rowsWithinChunks(context, chunk);
  const newest = Math.floor(queryPositions(context).last / chunk);
  const segments = unboundedSegments(chunkSize, chunk, newest).map((segment) => {
    const ranges = rangesByRow(context, { blockQ, chunk }, (own) => [segment.keys(own)]);
    const { plan } = lowerSelection({ ranges, lengths, kvMap }, { lengthQ, heads, capacity, blockQ });
    return { q: turnedQueries(context, segment, options), plan, keys: segment.keys(newest) };
  });
  const stats = segments.map(({ q, plan }) => rowStats(q, k, plan, { table, scale, softcap, queryLayout }));
  const largest = stats.map((part) => part.largest).reduce((a, b) => binary(a, b, 'max'));
  const sum = stats.map((part) => mul(part.sum, unary(sub(part.largest, largest), 'exp'))).reduce(add);
  return { context, segments, lse: add(largest, unary(sum, 'log')) };
}

/** Segments by rotation where the distance is not bounded: the query's own chunk and the one before have true distances. */
function unboundedSegments(chunkSize: number, chunk: number, newest: number): readonly ChunkSegment[] {
  const near: ChunkSegment = { turn: () => 0, keys: (own) => [Math.max(0, own - 1) * chunk, (own + 1) * chunk] };
  const older = olderChunks(newest, chunk, (before) => (position) => {
    const own = Math.floor(position / chunk);
    return chunkSize + (before - own) * chunk;
  });
  return [near, ...older];
}

/** Attention of the last queries by key or by distance, [B, Hq, 1, K]. What a segment adds lies in a stretch of keys or distances, and is added there. */
function attentionOf({ context, segments, lse }: Asked, along: 'keys' | 'distances'): Tensor {
  const { k, table, scale, softcap, queryLayout, lenQ } = context;
  const call = { table, scale, softcap, queryLayout, along, blockQ: lenQ[0], blockK: 1 };
  const { first, last } = queryPositions(context);
  const [near, ...older] = segments;
  const sums = attentionStats(near.q, k, near.plan, lse, call);
  for (const { q, plan, keys } of older) {
    const [start, end] = along === 'keys' ? keys : [Math.max(0, first - keys[1] + 1), last - keys[0] + 1];
    const part = (x: Tensor): Tensor => slice(x, [0, 0, 0, start], [...x.shape.slice(0, 3), end - start]);
    scope(() => {
      const more = scope(() => part(attentionStats(q, k, plan, lse, call)));
      writeSlice(sums, add(part(sums), more), { axis: 3, start });
    });
  }
  return sums;
}

/** Dual chunk attention over what was chosen. Every key is in one segment of a query. */
function attendSegments(context: SelectContext, options: ChunkPositions, chosen: Chosen, blockQ: number): SelectionPart {
  const chunk = options.chunkSize - options.localSize;
  const { lengthQ, heads, capacity } = stepSizes(context);
  const { k, v, table, scale, softcap, queryLayout, lengths, kvMap } = context;
  const { columns, slashes, maxColumns, maxSlashes } = chosen;
  const attend = (segment: ChunkSegment): { o: Tensor; lse: Tensor; cells: Tensor } => {
    // What a row block has of its own is seen, and what is outside of the segment cut out.
    const ranges = rangesByRow(context, { blockQ, chunk }, (own) => {
      const [start, end] = segment.keys(own);
      return [[-1, 0], start > 0 ? [0, start] : noKeys, [Math.min(end, capacity), capacity]];
    });
    const { plan, cells } = lowerSelection(
      { columns, slashes, ranges, lengths, kvMap },
      { lengthQ, heads, capacity, blockQ, maxColumns, maxSlashes, excluded: 2 },
    );
    const q = turnedQueries(context, segment, options);
    return { ...plannedAttention(q, k, v, plan, { table, scale, softcap, queryLayout }), cells };
  };
  const [first, ...others] = chunkSegments(options, Math.floor(queryPositions(context).last / chunk));
  let { cells, ...done } = scope(() => attend(first));
  for (const segment of others) {
    const before = [done.o, done.lse, cells];
    ({ cells, ...done } = scope(() => {
      const { cells: more, ...part } = attend(segment);
      return { ...mergeAttention([done, part], { queryLayout }), cells: add(cells, more) };
    }));
    for (const tensor of before) tensor.dispose();
  }
  return { done, cells };
}

/** {@link dualChunkSparse} in the catalogue. */
export const dualChunkSparseMethod = /* @__PURE__ */ defineMethod({
  id: 'dual-chunk-sparse',
  title: 'Dual chunk positions, vertical-slash heads (Qwen2.5-1M)',
  paper: 'arXiv:2501.15383',
  phase: 'both',
  training: 'none',
  emits: 'slashes, columns',
  options: {
    chunkSize: 8192,
    localSize: 1024,
    originalMax: 0,
    vertical: 1000,
    slash: 6096,
    lastQ: 64,
    sinkTokens: 30,
    localDiagonals: 100,
    sparseAbove: 32768,
  },
  policy: (options) => ({ kind: 'selector', selector: dualChunkSparse(options) }),
});
