import { OptionError } from '@filigree/core-tensor';
import { rowsPerHead, type BlockMask } from './mask.js';

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
  /** [rows] segment of `cols`. */
  readonly colBeg: Int32Array;
  readonly colCnt: Int32Array;
  readonly cols: Int32Array;
  /** Visible key slots per row. */
  readonly work: Uint32Array;
  /** Rows by descending work. */
  readonly order: Int32Array;
  readonly stats: PlanStats;
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
  };
  const ranges: number[] = [];
  const cols: number[] = [];
  for (let row = 0; row < total; row++) {
    const lowered = lowerRow(mask, row, rows);
    plan.rangeBeg[row] = ranges.length / 3;
    plan.rangeCnt[row] = lowered.ranges.length;
    plan.colBeg[row] = cols.length;
    plan.colCnt[row] = lowered.columns.length;
    for (const { start, end, tested } of lowered.ranges) ranges.push(start, end, tested ? 1 : 0);
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
    cols: Int32Array.from(cols),
    order: Int32Array.from([...plan.work.keys()].sort((a, b) => plan.work[b] - plan.work[a] || a - b)),
  };
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
  const add = (start: number, end: number, tested: boolean): void => {
    const clipped = { start: Math.max(start, floor), end: Math.min(end, limit), tested };
    if (clipped.end > clipped.start) found.push(clipped);
  };
  for (let index = mask.rowPtr[row]; index < mask.rowPtr[row + 1]; index++) {
    add(mask.colIdx[index] * mask.blockK, (mask.colIdx[index] + 1) * mask.blockK, mask.kind?.[index] !== 0);
  }
  if (mask.rangePtr && mask.ranges) {
    for (let index = mask.rangePtr[row]; index < mask.rangePtr[row + 1]; index++)
      add(mask.ranges[2 * index], mask.ranges[2 * index + 1], true);
  }
  if (mask.slashPtr && mask.slashes) {
    const at = Math.floor(row / rows);
    for (let index = mask.slashPtr[at]; index < mask.slashPtr[at + 1]; index++) {
      add(first - mask.slashes[index], first - mask.slashes[index] + mask.blockQ, true);
    }
  }
  const merged = splitTested(mergeRanges(found), mask, first, last);
  const columns = new Set<number>();
  if (mask.colPtr && mask.cols) {
    for (const column of mask.cols.subarray(mask.colPtr[row], mask.colPtr[row + 1])) {
      const inRange = merged.some(({ start, end }) => column >= start && column < end);
      if (column >= floor && column < limit && !inRange) columns.add(column);
    }
  }
  return { ranges: merged, columns: [...columns].sort((a, b) => a - b) };
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

/** Visible cells of a plan, counted from its ranges without a lenQ × lenK array. */
export function planStats(plan: Omit<AttnPlan, 'stats'>): PlanStats {
  let [cells, possible, rangeKeys, columnKeys] = [0, 0, 0, 0];
  const share = Array.from(plan.headMap).reduce(
    (counts, head) => counts.set(head, (counts.get(head) ?? 0) + 1),
    new Map<number, number>(),
  );
  for (let row = 0; row < plan.rangeBeg.length; row++) {
    const batch = Math.floor(row / (plan.maskHeads * plan.rowsPerHead));
    const heads = share.get(Math.floor(row / plan.rowsPerHead) % plan.maskHeads) ?? 0;
    const [first, last] = rowPositions(plan, batch, row % plan.rowsPerHead);
    const columns = plan.cols.subarray(plan.colBeg[row], plan.colBeg[row] + plan.colCnt[row]);
    columnKeys += columns.length;
    for (let position = first; position <= last; position++) {
      const end = plan.causal ? Math.min(position + 1, plan.lenK[batch]) : plan.lenK[batch];
      const from = plan.window > 0 ? position + 1 - plan.window : 0;
      possible += heads * Math.max(0, end);
      for (let index = plan.rangeBeg[row]; index < plan.rangeBeg[row] + plan.rangeCnt[row]; index++) {
        const [start, stop, flag] = plan.ranges.subarray(3 * index, 3 * index + 3);
        const visible = flag === 1 ? Math.min(stop, end) - Math.max(start, from) : stop - start;
        cells += heads * Math.max(0, visible);
      }
      for (const column of columns) if (column < end && column >= from) cells += heads;
    }
    for (let index = plan.rangeBeg[row]; index < plan.rangeBeg[row] + plan.rangeCnt[row]; index++) {
      rangeKeys += plan.ranges[3 * index + 1] - plan.ranges[3 * index];
    }
  }
  return { density: possible === 0 ? 1 : cells / possible, cells, rangeKeys, columnKeys };
}

/** Words of the header of a packed plan. */
export const planHeader = 20;
/** Version in the first word. */
export const planVersion = 1;

/**
 * A plan in one i32 buffer: a header of sizes and offsets, then the sections.
 *
 * Words: 0 version, 1 batch, 2 maskHeads, 3 rowsPerHead, 4 blockQ, 5 causal, 6 window, 7 total; offsets of 8 headMap, 9 qOffset, 10 lenQ,
 * 11 lenK, 12 rangeBeg, 13 rangeCnt, 14 ranges, 15 colBeg, 16 colCnt, 17 cols, 18 order; 19 spare.
 */
export function packPlan(plan: AttnPlan): Int32Array {
  const sections = [
    plan.headMap,
    plan.qOffset,
    plan.lenQ,
    plan.lenK,
    plan.rangeBeg,
    plan.rangeCnt,
    plan.ranges,
    plan.colBeg,
    plan.colCnt,
    plan.cols,
    plan.order,
  ];
  const total = sections.reduce((sum, section) => sum + section.length, planHeader);
  const packed = new Int32Array(total);
  packed.set([planVersion, plan.batch, plan.maskHeads, plan.rowsPerHead, plan.blockQ, plan.causal ? 1 : 0, plan.window, total]);
  let at = planHeader;
  for (const [index, section] of sections.entries()) {
    packed[8 + index] = at;
    packed.set(section, at);
    at += section.length;
  }
  return packed;
}

/** The fields of a packed plan that executors' definitions use. */
export function unpackPlan(packed: ArrayLike<number>): Omit<AttnPlan, 'work' | 'stats'> {
  if (packed.length < planHeader || packed[0] !== planVersion) {
    throw new OptionError(`planned attention: the plan has no header of version ${planVersion}; make it with packPlan`);
  }
  const [batch, maskHeads, rowsPer, blockQ] = [packed[1], packed[2], packed[3], packed[4]];
  const section = (index: number): Int32Array => {
    const end = index < 18 ? packed[index + 1] : packed[7];
    return Int32Array.from({ length: end - packed[index] }, (_, item) => packed[packed[index] + item]);
  };
  return {
    batch,
    maskHeads,
    rowsPerHead: rowsPer,
    blockQ,
    causal: packed[5] !== 0,
    window: packed[6],
    headMap: section(8),
    qOffset: section(9),
    lenQ: section(10),
    lenK: section(11),
    rangeBeg: section(12),
    rangeCnt: section(13),
    ranges: section(14),
    colBeg: section(15),
    colCnt: section(16),
    cols: section(17),
    order: section(18),
  };
}
