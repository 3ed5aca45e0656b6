import type { HostTensor } from '@filigree/core-tensor';
import { hasBit } from './row-blocks.js';
import { sourceHead } from './lowered-layout.js';

/** Positions of the first and last query of a row block, and the window of each (0: none). */
export interface RowBounds {
  readonly first: number;
  readonly last: number;
  readonly window: number;
}

/** Queries of the block that see a key. */
export function rowCells(key: number, { first, last, window }: RowBounds): number {
  const from = Math.max(first, key);
  const to = window > 0 ? Math.min(last, key + window - 1) : last;
  return Math.max(0, to - from + 1);
}

/** A range as triples (start, end, flag): only keys behind the first query, and before the last one's window, are tested. */
export function splitRange(start: number, end: number, { first, last, window }: RowBounds): [number, number, number][] {
  const clearStart = window > 0 ? Math.min(Math.max(start, last + 1 - window), end) : start;
  const clearEnd = Math.max(Math.min(end, first + 1), clearStart);
  const parts: [number, number, number][] = [
    [start, clearStart, 1],
    [clearStart, clearEnd, 0],
    [clearEnd, end, 1],
  ];
  if (clearStart === clearEnd) parts.splice(0, 3, [start, end, 1]);
  return parts.filter(([from, to]) => to > from);
}

interface Row extends RowBounds {
  readonly batch: number;
  readonly maskHead: number;
  readonly maskHeads: number;
  readonly block: number;
  readonly rows: number;
}

type Sources = {
  readonly [K in 'blocks' | 'moreBlocks' | 'columns' | 'slashes' | 'ranges' | 'kvMap']?: HostTensor | undefined;
};

/** Key by key: whether a block, band or range has it, and whether a column does. Both within what some query of the row block sees. */
export function visibleMarks(
  { blocks, moreBlocks, columns, slashes, ranges, kvMap }: Sources,
  sizes: {
    blockQ: number;
    blockK: number;
    capacity: number;
    slashStep: number;
    maxSlashes: number;
    excluded: number;
  },
  { batch, maskHead, maskHeads, block, rows, first, last, window }: Row,
): { inRange: Uint8Array; inColumn: Uint8Array } {
  const { blockQ, blockK, capacity, slashStep, maxSlashes, excluded } = sizes;
  const limit = Math.max(0, Math.min(capacity, last + 1));
  const floor = window > 0 ? Math.max(0, first + 1 - window) : 0;
  const [inRange, inColumn] = [new Uint8Array(limit), new Uint8Array(limit)];
  const mark = (marks: Uint8Array, start: number, end: number, value: number): void => {
    for (let key = Math.max(floor, start); key < Math.min(limit, end); key++) marks[key] = value;
  };
  const wordsAt = (source: HostTensor, group: number): number => {
    const head = sourceHead(maskHead, maskHeads, source.shape[1], kvMap?.data);
    return ((batch * source.shape[1] + head) * source.shape[2] + group) * source.shape[3];
  };
  for (const source of [blocks, moreBlocks]) {
    if (!source) continue;
    const at = wordsAt(source, source.shape[2] === 1 ? 0 : block);
    for (let index = 0; index * blockK < limit; index++)
      if (hasBit(source.data, at, index)) mark(inRange, index * blockK, (index + 1) * blockK, 1);
  }
  if (slashes) {
    const at = wordsAt(slashes, 0);
    let left = maxSlashes < 0 ? Infinity : maxSlashes;
    for (let index = 0; index * slashStep < capacity && left > 0; index++) {
      if (!hasBit(slashes.data, at, index)) continue;
      left--;
      mark(inRange, first - index * slashStep, first - index * slashStep + blockQ, 1);
    }
  }
  if (columns) {
    const at = wordsAt(columns, Math.floor(block / Math.ceil(rows / columns.shape[2])));
    for (let key = floor; key < limit; key++) if (hasBit(columns.data, at, key)) inColumn[key] = 1;
  }
  if (ranges) {
    const count = ranges.shape[1];
    for (let index = 0; index < count; index++) {
      const item = 2 * ((ranges.shape[0] === 1 ? 0 : block) * count + index);
      const [start, end] = [ranges.data[item], ranges.data[item + 1]];
      const from = start < 0 ? first + 1 + start : start;
      const to = end <= 0 ? last + 1 + end : end;
      mark(inRange, from, to, index >= count - excluded ? 0 : 1);
      if (index >= count - excluded) mark(inColumn, from, to, 0);
    }
  }
  return { inRange, inColumn };
}
