import type { Shape, TensorMeta } from '@filigree/core-tensor';
import { planHeader } from '../pack-plan.js';

/** What decides where the sections of a plan that the device writes lie: shapes and attributes alone. */
export interface LoweredSizes {
  readonly batch: number;
  readonly heads: number;
  readonly maskHeads: number;
  readonly rows: number;
  /** Ranges and columns that every row has room for. */
  readonly maxRanges: number;
  readonly maxColumns: number;
  readonly mapped: boolean;
}

/** Offsets of the sections by header word, and the words of the whole plan. */
export interface LoweredLayout extends LoweredSizes {
  readonly sections: ReadonlyMap<number, number>;
  readonly words: number;
}

/** Sections in order of their header words; row r has its ranges at r · maxRanges and its columns at r · maxColumns. */
export function loweredLayout(sizes: LoweredSizes): LoweredLayout {
  const { batch, heads, maskHeads, rows, maxRanges, maxColumns, mapped } = sizes;
  const total = batch * maskHeads * rows;
  const lengths: readonly (readonly [number, number])[] = [
    [8, heads],
    [9, batch],
    [10, batch],
    [11, batch],
    [12, total],
    [13, total],
    [15, total],
    [16, total],
    [21, mapped ? heads : 0],
    [27, total],
    [14, 3 * maxRanges * total],
    [17, maxColumns * total],
  ];
  const sections = new Map<number, number>();
  let at = planHeader;
  for (const [word, length] of lengths) {
    sections.set(word, word === 21 && !mapped ? 0 : at);
    at += length;
  }
  return { ...sizes, sections, words: at };
}

/** Ranges that a row can come to: runs of blocks, bands of slashes, given ranges, and what is cut apart. */
export function mostRanges(sizes: {
  readonly capacity: number;
  readonly blocks: boolean;
  readonly blockQ: number;
  readonly blockK: number;
  readonly slashes: number;
  readonly ranges: number;
}): number {
  const { capacity, blockQ, blockK } = sizes;
  const runs = sizes.blocks ? Math.ceil(Math.ceil(capacity / blockK) / 2) : 0;
  // Bands that do not touch are blockQ + 1 apart, but for those that the ends cut.
  const bands = Math.min(sizes.slashes, Math.ceil(capacity / (blockQ + 1)) + 2);
  // What is tested cell by cell is cut off at the first query's position, and where the last one's window begins.
  return Math.min(runs + bands + sizes.ranges, Math.ceil(capacity / 2)) + 2;
}

/** Which head of a source with `own` heads a mask head reads: its own, the only one, or the key-value head's. */
export function sourceHead(maskHead: number, maskHeads: number, own: number, kvMap: ArrayLike<number> | undefined): number {
  if (own === maskHeads) return maskHead;
  if (own === 1) return 0;
  return kvMap ? kvMap[maskHead] : Math.floor((maskHead * own) / maskHeads);
}

/** Mask heads: as many as the source with most heads has. */
export function maskHeadsOf(sources: readonly (Shape | undefined)[]): number {
  return sources.reduce((most, shape) => Math.max(most, shape?.[1] ?? 0), 1);
}

/** What a selection can consist of. */
export type SelectionMetas = {
  readonly [K in 'blocks' | 'moreBlocks' | 'columns' | 'slashes' | 'ranges' | 'lengths' | 'kvMap']?: TensorMeta | undefined;
};

/** Attributes that sizes follow from. */
export interface LoweringSizes {
  readonly lengthQ: number;
  readonly heads: number;
  readonly blockQ: number;
  readonly blockK: number;
  readonly capacity: number;
  readonly slashStep: number;
  readonly maxSlashes: number;
  readonly maxColumns: number;
}

/** Sizes of the plan, from shapes and attributes. */
export function layoutOf(inputs: SelectionMetas, sizes: LoweringSizes): LoweredLayout {
  const { blocks, moreBlocks, columns, slashes, ranges, lengths, kvMap } = inputs;
  const { lengthQ, heads, blockQ, blockK, capacity, slashStep, maxSlashes, maxColumns } = sizes;
  const sources = [blocks, moreBlocks, columns, slashes];
  const batch = sources.find((source) => source !== undefined)?.shape[0] ?? lengths?.shape[0] ?? 1;
  const offsets = slashes ? Math.ceil(capacity / slashStep) : 0;
  const keys = columns ? capacity : 0;
  return loweredLayout({
    batch,
    heads,
    maskHeads: maskHeadsOf(sources.map((source) => source?.shape)),
    rows: Math.ceil(lengthQ / blockQ),
    maxRanges: mostRanges({
      capacity,
      blocks: blocks !== undefined || moreBlocks !== undefined,
      blockQ,
      blockK,
      slashes: maxSlashes < 0 ? offsets : Math.min(offsets, maxSlashes),
      ranges: ranges?.shape[1] ?? 0,
    }),
    maxColumns: maxColumns < 0 ? keys : Math.min(keys, maxColumns),
    mapped: kvMap !== undefined,
  });
}
