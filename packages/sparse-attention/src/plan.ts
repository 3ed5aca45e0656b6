import { OptionError } from '@filigree/core-tensor';
import { rangeBit, rowsPerHead, type BlockMask } from './mask.js';

/**
 * Lowered form of a mask, the only one executors read. Per row block: sorted, disjoint, causally trimmed key ranges at arbitrary starts, and
 * single key columns outside of them. Rows may share a segment.
 */
export interface AttnPlan {
  readonly batch: number;
  readonly maskHeads: number;
  readonly rowsPerHead: number;
  readonly blockQ: number;
  readonly headMap: Int32Array;
  readonly lenQ: Int32Array;
  readonly lenK: Int32Array;
  readonly qOffset: Int32Array;
  readonly causal: boolean;
  readonly window: number;
  /** [rows] segment of `ranges`. */
  readonly rangeBeg: Int32Array;
  readonly rangeCnt: Int32Array;
  /** Triples (start, end, flag): flag 0 all cells visible, 1 the predicates apply. */
  readonly ranges: Int32Array;
  /** Masks that flags of ranges from 2 on refer to; see docs/design/sparse-attention.md. */
  readonly bits?: Uint32Array | undefined;
  /** [rows] segment of `cols`. */
  readonly colBeg: Int32Array;
  readonly colCnt: Int32Array;
  readonly cols: Int32Array;
  /** Queries of the block that see a column: ceil(blockQ / 32) words per column. Without it all do. */
  readonly colBits?: Uint32Array | undefined;
  /** [Hq] query head → key-value head; without it, contiguous groups. */
  readonly kvMap?: Int32Array | undefined;
  /** What causality and window compare instead of indices, where tokens were permuted. */
  readonly positions?: PerToken | undefined;
  /** Queries see keys of their own segment only. */
  readonly segments?: PerToken | undefined;
  /** Visible cells of a row, for one query head. */
  readonly cells: Uint32Array;
  /** Visible key slots per row. */
  readonly work: Uint32Array;
  /** Rows by descending work. */
  readonly order: Int32Array;
  readonly stats: PlanStats;
}

/** A number per query and per key: q [B · n], n at least every lenQ, and k [B · m], m at least every lenK. */
export interface PerToken {
  readonly q: Int32Array;
  readonly k: Int32Array;
}

export interface PlanStats {
  /** Visible cells over causal cells. */
  readonly density: number;
  readonly cells: number;
  readonly rangeKeys: number;
  readonly columnKeys: number;
}

/** A half-open key range; `tested` when causality or window decide cell by cell. */
interface Range {
  start: number;
  end: number;
  tested: boolean;
  /** Of a range with bits. */
  flag?: number;
}

/** Lowers a mask to the plan executors read: O(Σ (blocks + slashes) log) integer work, nothing of size lenQ × lenK. */
export function lowerMask(mask: BlockMask): AttnPlan {
  const rows = rowsPerHead(mask);
  const total = mask.batch * mask.maskHeads * rows;
  const plan = {
    rangeBeg: new Int32Array(total),
    rangeCnt: new Int32Array(total),
    colBeg: new Int32Array(total),
    colCnt: new Int32Array(total),
    work: new Uint32Array(total),
    cells: new Uint32Array(total),
  };
  const ranges: number[] = [];
  const cols: number[] = [];
  for (let row = 0; row < total; row++) {
    const lowered = lowerRow(mask, row, rows);
    plan.rangeBeg[row] = ranges.length / 3;
    plan.rangeCnt[row] = lowered.ranges.length;
    plan.colBeg[row] = cols.length;
    plan.colCnt[row] = lowered.columns.length;
    for (const { start, end, tested, flag } of lowered.ranges) ranges.push(start, end, flag ?? (tested ? 1 : 0));
    cols.push(...lowered.columns);
    plan.work[row] = lowered.ranges.reduce((sum, { start, end }) => sum + end - start, lowered.columns.length);
  }
  const lowered = {
    batch: mask.batch,
    maskHeads: mask.maskHeads,
    rowsPerHead: rows,
    blockQ: mask.blockQ,
    headMap: mask.headMap,
    lenQ: mask.lenQ,
    lenK: mask.lenK,
    qOffset: mask.qOffset,
    causal: mask.causal,
    window: mask.window,
    ...plan,
    ranges: Int32Array.from(ranges),
    bits: mask.bits?.length ? mask.bits : undefined,
    cols: Int32Array.from(cols),
    order: Int32Array.from([...plan.work.keys()].sort((a, b) => plan.work[b] - plan.work[a] || a - b)),
  };
  for (let row = 0; row < total; row++) plan.cells[row] = rowCells(lowered, row);
  return { ...lowered, stats: planStats(lowered) };
}

/** Positions of the first and last query of a row block. */
function rowPositions(
  mask: { qOffset: Int32Array; lenQ: Int32Array; blockQ: number },
  batch: number,
  block: number,
): [number, number] {
  const first = mask.qOffset[batch] + block * mask.blockQ;
  return [first, mask.qOffset[batch] + Math.min((block + 1) * mask.blockQ, mask.lenQ[batch]) - 1];
}

function lowerRow(mask: BlockMask, row: number, rows: number): { ranges: Range[]; columns: number[] } {
  const batch = Math.floor(row / (mask.maskHeads * rows));
  const block = row % rows;
  const [first, last] = rowPositions(mask, batch, block);
  if (last < first) return { ranges: [], columns: [] };
  const limit = mask.causal ? Math.min(mask.lenK[batch], last + 1) : mask.lenK[batch];
  const floor = mask.window > 0 ? Math.max(0, first + 1 - mask.window) : 0;
  const found: Range[] = [];
  const withBits: Required<Range>[] = [];
  const add = (start: number, end: number, tested: boolean): void => {
    const clipped = { start: Math.max(start, floor), end: Math.min(end, limit), tested };
    if (clipped.end > clipped.start) found.push(clipped);
  };
  for (let index = mask.rowPtr[row]; index < mask.rowPtr[row + 1]; index++) {
    add(mask.colIdx[index] * mask.blockK, (mask.colIdx[index] + 1) * mask.blockK, mask.kind?.[index] !== 0);
  }
  if (mask.rangePtr && mask.ranges) {
    for (let index = mask.rangePtr[row]; index < mask.rangePtr[row + 1]; index++) {
      const [start, end, flag] = [mask.ranges[2 * index], mask.ranges[2 * index + 1], mask.rangeFlags?.[index] ?? 1];
      if (flag < 2) add(start, end, true);
      else withBits.push(clipBits({ start, end, tested: true, flag }, floor, limit, mask.blockQ));
    }
  }
  if (mask.slashPtr && mask.slashes) {
    const at = Math.floor(row / rows);
    for (let index = mask.slashPtr[at]; index < mask.slashPtr[at + 1]; index++) {
      add(first - mask.slashes[index], first - mask.slashes[index] + mask.blockQ, true);
    }
  }
  const merged = addApart(splitTested(mergeRanges(found), mask, first, last), withBits);
  const columns = new Set<number>();
  if (mask.colPtr && mask.cols) {
    for (const column of mask.cols.subarray(mask.colPtr[row], mask.colPtr[row + 1])) {
      const inRange = merged.some(({ start, end }) => column >= start && column < end);
      if (column >= floor && column < limit && !inRange) columns.add(column);
    }
  }
  return { ranges: merged, columns: [...columns].sort((a, b) => a - b) };
}

/** A range with bits, cut to floor … limit; bits of keys move along. */
function clipBits({ start, end, flag }: Required<Range>, floor: number, limit: number, blockQ: number): Required<Range> {
  const from = Math.max(start, floor);
  const skipped = (flag & 1) === 1 ? (from - start) * Math.ceil(blockQ / 32) : 0;
  return { start: from, end: Math.min(end, limit), tested: true, flag: flag + 2 * skipped };
}

/** Adds ranges with bits, which may touch others and not overlap them. */
function addApart(ranges: Range[], withBits: readonly Range[]): Range[] {
  const kept = withBits.filter(({ start, end }) => end > start);
  if (kept.length === 0) return ranges;
  const all = [...ranges, ...kept].sort((a, b) => a.start - b.start);
  for (let index = 1; index < all.length; index++) {
    if (all[index].start < all[index - 1].end)
      throw new OptionError(`lowerMask: a range with bits overlaps another one at key ${all[index].start}`);
  }
  return all;
}

/** Sorted and disjoint; where ranges overlap, all-visible beats tested. */
function mergeRanges(found: Range[]): Range[] {
  const edges = [...new Set(found.flatMap(({ start, end }) => [start, end]))].sort((a, b) => a - b);
  const sorted = [...found].sort((a, b) => a.start - b.start);
  const merged: Range[] = [];
  let next = 0;
  let open: Range[] = [];
  for (let index = 0; index + 1 < edges.length; index++) {
    const [start, end] = [edges[index], edges[index + 1]];
    open = open.filter((range) => range.end > start);
    while (next < sorted.length && sorted[next].start <= start) open.push(sorted[next++]);
    open = open.filter((range) => range.end > start);
    if (open.length === 0) continue;
    const tested = open.every((range) => range.tested);
    const before = merged.at(-1);
    if (before?.end === start && before.tested === tested) before.end = end;
    else merged.push({ start, end, tested });
  }
  return merged;
}

/** Only keys after the first query's position, and before the last query's window, need a test cell by cell. */
function splitTested(ranges: Range[], mask: BlockMask, first: number, last: number): Range[] {
  const visibleTo = mask.causal ? first + 1 : Infinity;
  const visibleFrom = mask.window > 0 ? last + 1 - mask.window : 0;
  const parts: Range[] = [];
  const push = (start: number, end: number, tested: boolean): void => {
    if (end <= start) return;
    const before = parts.at(-1);
    if (before?.end === start && before.tested === tested) before.end = end;
    else parts.push({ start, end, tested });
  };
  for (const { start, end, tested } of ranges) {
    if (!tested) {
      push(start, end, false);
      continue;
    }
    const clearStart = Math.min(Math.max(start, visibleFrom), end);
    const clearEnd = Math.max(Math.min(end, visibleTo), clearStart);
    push(start, clearStart, true);
    push(clearStart, clearEnd, false);
    push(clearEnd, end, true);
  }
  return parts;
}

/** Visible cells of a row, counted from its ranges. */
function rowCells(plan: Omit<AttnPlan, 'stats'>, row: number): number {
  const batch = Math.floor(row / (plan.maskHeads * plan.rowsPerHead));
  const [first, last] = rowPositions(plan, batch, row % plan.rowsPerHead);
  const columns = plan.cols.subarray(plan.colBeg[row], plan.colBeg[row] + plan.colCnt[row]);
  let cells = 0;
  for (let position = first; position <= last; position++) {
    const end = plan.causal ? Math.min(position + 1, plan.lenK[batch]) : plan.lenK[batch];
    const from = plan.window > 0 ? position + 1 - plan.window : 0;
    for (let index = plan.rangeBeg[row]; index < plan.rangeBeg[row] + plan.rangeCnt[row]; index++) {
      const [start, stop, flag] = plan.ranges.subarray(3 * index, 3 * index + 3);
      const [visibleFrom, visibleTo] = flag === 0 ? [start, stop] : [Math.max(start, from), Math.min(stop, end)];
      if (flag < 2) cells += Math.max(0, visibleTo - visibleFrom);
      else for (let key = visibleFrom; key < visibleTo; key++) if (rangeBit(plan, flag, key - start, position - first)) cells++;
    }
    for (const column of columns) if (column < end && column >= from) cells++;
  }
  return cells;
}

/** Visible cells of a plan over the causally possible ones, all heads counted. */
export function planStats(plan: Omit<AttnPlan, 'stats'>): PlanStats {
  let [cells, possible, rangeKeys, columnKeys] = [0, 0, 0, 0];
  const share = new Uint32Array(plan.maskHeads);
  for (const head of plan.headMap) share[head]++;
  for (let row = 0; row < plan.rangeBeg.length; row++) {
    const batch = Math.floor(row / (plan.maskHeads * plan.rowsPerHead));
    const heads = share[Math.floor(row / plan.rowsPerHead) % plan.maskHeads];
    const [first, last] = rowPositions(plan, batch, row % plan.rowsPerHead);
    for (let position = first; position <= last; position++)
      possible += heads * Math.max(0, plan.causal ? Math.min(position + 1, plan.lenK[batch]) : plan.lenK[batch]);
    cells += heads * plan.cells[row];
    columnKeys += plan.colCnt[row];
    for (let index = plan.rangeBeg[row]; index < plan.rangeBeg[row] + plan.rangeCnt[row]; index++) {
      rangeKeys += plan.ranges[3 * index + 1] - plan.ranges[3 * index];
    }
  }
  return { density: possible === 0 ? 1 : cells / possible, cells, rangeKeys, columnKeys };
}
