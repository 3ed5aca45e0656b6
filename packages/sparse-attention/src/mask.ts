import type { PerToken } from './plan.js';
import { predicatesHold } from './visible-keys.js';

/**
 * Exchange form of a sparse attention mask: what patterns and selectors emit and what tests compare. Per (batch, mask head, block of
 * queries): a list of key blocks, single key columns and slash offsets.
 *
 * A cell (query at position p, key j) is visible iff the predicates hold (causal j ≤ p, window p − j < W, equal segments, j < lenK) and its key
 * block is listed, or j is among the columns of its row block (with their bits, where there are some), or some slash o has
 * a − o ≤ j < a − o + blockQ, a being the position of the row block's first query.
 */
export interface BlockMask {
  readonly batch: number;
  /** Distinct masks: 1, Hk or Hq. */
  readonly maskHeads: number;
  /** [Hq] query head → mask head. */
  readonly headMap: Int32Array;
  /** [B] each. */
  readonly lenQ: Int32Array;
  readonly lenK: Int32Array;
  /** Position of query 0. */
  readonly qOffset: Int32Array;
  readonly blockQ: number;
  readonly blockK: number;
  readonly causal: boolean;
  /** 0: none. Counts the query itself. */
  readonly window: number;
  /** [B · maskHeads · R + 1], R = ceil(max lenQ / blockQ). */
  readonly rowPtr: Int32Array;
  /** Key-block ids, ascending and unique within a row. */
  readonly colIdx: Int32Array;
  /** Queries see keys of their own segment only (packed documents). */
  readonly segments?: PerToken | undefined;
  /** What causality and window compare instead of indices, where tokens were permuted. */
  readonly positions?: PerToken | undefined;
  /** Per key block: 0 and 1 all queries, as far as the predicates allow; 2 queries by their bits; 3 queries and keys by bits. Absent: 1. */
  readonly kind?: Uint8Array | undefined;
  /** Per key block of kind 2 and 3: its first word of `bits`. Kind 2 has w = ceil(blockQ / 32) words, kind 3 w words for each of blockK keys. */
  readonly bitPtr?: Int32Array | undefined;
  /** Bit i of w words, lowest word first: query i of the row block sees. */
  readonly bits?: Uint32Array | undefined;
  /** Single key columns per row block. */
  readonly colPtr?: Int32Array | undefined;
  readonly cols?: Int32Array | undefined;
  /** w words for each of `cols`: the queries that see it. Absent: all. */
  readonly colBits?: Uint32Array | undefined;
  /** Slash offsets per (batch, mask head). */
  readonly slashPtr?: Int32Array | undefined;
  readonly slashes?: Int32Array | undefined;
  /** Extra key ranges [start, end) per row block that are no whole blocks: windows and sinks at arbitrary positions. */
  readonly rangePtr?: Int32Array | undefined;
  readonly ranges?: Int32Array | undefined;
  /**
   * Per range, as in a plan: 1, all queries of the block see it; f ≥ 2, those of `bits` from word (f − 2) >> 1 on, w words for the range (f even)
   * or for each of its keys (f odd). Absent: 1.
   */
  readonly rangeFlags?: Int32Array | undefined;
}

/** The sizes a pattern is built for. */
export interface MaskShape {
  readonly batch: number;
  readonly heads: number;
  readonly lenQ: readonly number[];
  readonly lenK: readonly number[];
  /** Position of the first query of each batch element; default lenK − lenQ: the last query sees the last key. */
  readonly qOffset?: readonly number[] | undefined;
  /** Positions the whole prompt has, where the queries are one chunk of it; default: the last query ends it. */
  readonly promptEnd?: readonly number[] | undefined;
}

/** A static pattern: depends on the shape alone. */
export type Pattern = (shape: MaskShape) => BlockMask;

/** Row blocks per mask head. */
export function rowsPerHead(mask: { lenQ: ArrayLike<number>; blockQ: number }): number {
  let longest = 0;
  for (let index = 0; index < mask.lenQ.length; index++) longest = Math.max(longest, mask.lenQ[index]);
  return Math.ceil(longest / mask.blockQ);
}

/** Whether cell (query index, key) of a head is visible, straight from the definition; the oracle of `lowerMask`. */
export function isVisible(mask: BlockMask, batch: number, head: number, query: number, key: number): boolean {
  if (query >= mask.lenQ[batch] || key >= mask.lenK[batch] || !predicatesHold(mask, batch, query, key)) return false;
  const rows = rowsPerHead(mask);
  const rowBlock = Math.floor(query / mask.blockQ);
  const bit = query % mask.blockQ;
  const row = (batch * mask.maskHeads + mask.headMap[head]) * rows + rowBlock;
  for (let index = mask.rowPtr[row]; index < mask.rowPtr[row + 1]; index++) {
    const within = key - mask.colIdx[index] * mask.blockK;
    if (within < 0 || within >= mask.blockK) continue;
    const kind = mask.kind?.[index] ?? 1;
    if (kind < 2 || rangeBit(mask, 2 * (mask.bitPtr?.[index] ?? 0) + kind, within, bit)) return true;
  }
  if (mask.colPtr && mask.cols) {
    for (let index = mask.colPtr[row]; index < mask.colPtr[row + 1]; index++) {
      if (mask.cols[index] !== key) continue;
      if (!mask.colBits || rangeBit({ bits: mask.colBits, blockQ: mask.blockQ }, 3, index, bit)) return true;
    }
  }
  if (mask.rangePtr && mask.ranges) {
    for (let index = mask.rangePtr[row]; index < mask.rangePtr[row + 1]; index++) {
      const [start, end] = [mask.ranges[2 * index], mask.ranges[2 * index + 1]];
      const flag = mask.rangeFlags?.[index] ?? 1;
      if (key >= start && key < end && (flag < 2 || rangeBit(mask, flag, key - start, bit))) return true;
    }
  }
  if (mask.slashPtr && mask.slashes) {
    const start = mask.qOffset[batch] + rowBlock * mask.blockQ;
    const at = batch * mask.maskHeads + mask.headMap[head];
    for (let index = mask.slashPtr[at]; index < mask.slashPtr[at + 1]; index++) {
      const from = start - mask.slashes[index];
      if (key >= from && key < from + mask.blockQ) return true;
    }
  }
  return false;
}

/** Whether query `query` of a row block sees key `key` of a range, both counted from its start, by the bits that the range's flag ≥ 2 refers to. */
export function rangeBit(
  { bits, blockQ }: { readonly bits?: Uint32Array | undefined; readonly blockQ: number },
  flag: number,
  key: number,
  query: number,
): boolean {
  const words = Math.ceil(blockQ / 32);
  const word = ((flag - 2) >> 1) + ((flag & 1) === 1 ? key * words : 0) + (query >> 5);
  return (((bits?.[word] ?? 0) >>> (query & 31)) & 1) === 1;
}
