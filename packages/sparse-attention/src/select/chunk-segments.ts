import { ExecutionError, mul, type Tensor } from '@filigree/core-tensor';
import type { SelectContext } from '../selector.js';
import { constant, stepSizes } from './step.js';

/** Positions as dual chunk attention takes them. */
export interface ChunkPositions {
  /** No distance between a query and a key becomes larger. */
  readonly chunkSize: number;
  /** Distances up to here stay what they are; chunks are of chunkSize − localSize positions. */
  readonly localSize: number;
  /** Positions the model was trained with: beyond them scores grow by 0.1 · ln(position / originalMax) + 1. 0: they do not. */
  readonly originalMax: number;
}

/** Keys that queries read with one rotation. */
export interface ChunkSegment {
  /** By how many positions more than its own the query at `position` is turned. Keys keep the rotation of the cache. */
  turn(position: number): number;
  /** Keys of the queries of chunk `own`, half-open; what lies behind a query is hidden. */
  keys(own: number): readonly [start: number, end: number];
}

/** A segment without keys. */
export const noKeys = [1, 1] as const;

/** The chunk of the query, the one before it, and every older one; the newest query is in chunk `newest`. */
export function chunkSegments({ chunkSize, localSize }: ChunkPositions, newest: number): readonly ChunkSegment[] {
  const chunk = chunkSize - localSize;
  const own: ChunkSegment = { turn: () => 0, keys: (at) => [at * chunk, (at + 1) * chunk] };
  const previous: ChunkSegment = {
    turn: (position) => Math.min(0, localSize - (position % chunk)),
    keys: (at) => (at >= 1 ? [(at - 1) * chunk, at * chunk] : noKeys),
  };
  const older = olderChunks(newest, chunk, (before) => (position) => chunkSize + before * chunk - position);
  return newest === 0 ? [own] : [own, previous, ...older];
}

/** Chunks that are older than the one before the query's, with a rotation for each. */
export function olderChunks(
  newest: number,
  chunk: number,
  turn: (older: number) => ChunkSegment['turn'],
): readonly ChunkSegment[] {
  return Array.from({ length: Math.max(0, newest - 1) }, (_, older) => ({
    turn: turn(older),
    keys: (own) => (older <= own - 2 ? [older * chunk, (older + 1) * chunk] : noKeys),
  }));
}

/**
 * Positions of the first and last query of the step.
 *
 * @throws ExecutionError when the host does not know lengths, or elements of a batch begin at different positions.
 */
export function queryPositions({ lenQ, lenK }: SelectContext): { readonly first: number; readonly last: number } {
  if (lenK === undefined) throw new ExecutionError('dual-chunk: a recorded step does not know lenK');
  const firsts = lenK.map((length, element) => length - lenQ[element]);
  if (firsts.some((first) => first !== firsts[0]))
    throw new ExecutionError(
      `dual-chunk: elements of the batch begin at positions ${firsts.join(', ')}, they must begin at one`,
    );
  return { first: firsts[0], last: Math.max(...lenK) - 1 };
}

/** The step's queries, rotated and scaled for the keys of a segment. */
export function turnedQueries(context: SelectContext, { turn }: ChunkSegment, { originalMax }: ChunkPositions): Tensor {
  const { lengthQ } = stepSizes(context);
  const { first } = queryPositions(context);
  const positions = Array.from({ length: lengthQ }, (_, query) => first + query);
  const turns = positions.map(turn);
  const turned =
    turns.some((by) => by !== 0) && context.rotate
      ? context.rotate(context.q, constant(context, turns, [lengthQ], 'i32'))
      : context.q;
  const factors = positions.map((position) =>
    originalMax === 0 ? 1 : Math.max(1, 0.1 * Math.log((position + 1) / originalMax) + 1),
  );
  if (factors.every((value) => value === 1)) return turned;
  const shape = context.queryLayout === 'bhld' ? [1, 1, lengthQ, 1] : [1, lengthQ, 1, 1];
  return mul(turned, constant(context, factors, shape));
}

/** Queries per row block, at most 64, so that no row block reaches into another chunk. 1 where that leaves fewer than 16. */
export function rowsWithinChunks(context: SelectContext, chunk: number): number {
  const { first, last } = queryPositions(context);
  const border = Math.ceil((first + 1) / chunk) * chunk;
  const fits = (size: number): boolean =>
    border > last || ((border - first) % size === 0 && (border + chunk > last || chunk % size === 0));
  return [64, 32, 16].find(fits) ?? 1;
}

/** Ranges of keys i32 [R, …, 2] for `lowerSelection`, by the chunk that a row block lies in. */
export function rangesByRow(
  context: SelectContext,
  { blockQ, chunk }: { readonly blockQ: number; readonly chunk: number },
  ranges: (own: number) => readonly (readonly [start: number, end: number])[],
): Tensor {
  const { first } = queryPositions(context);
  const rows = Math.ceil(stepSizes(context).lengthQ / blockQ);
  const all = Array.from({ length: rows }, (_, row) => ranges(Math.floor((first + row * blockQ) / chunk)));
  return constant(context, all.flat(2), [rows, ranges(0).length, 2], 'i32');
}
