import { OptionError } from '@filigree/core-tensor';
import { countCells } from './count-cells.js';
import { rowsPerHead, type BlockMask } from './mask.js';
import { planStats, type AttnPlan } from './plan.js';
import { RowSegments } from './row-segments.js';
import { Words } from './words.js';

/**
 * Lowers a mask to the plan executors read: O(Σ (blocks + slashes) log) integer work, nothing of size lenQ × lenK. Bits of stretches that overlap are
 * joined; what lies beyond the last query's position, or before every query's window, is cut off.
 *
 * @throws OptionError when lists of the mask do not fit its sizes.
 */
export function lowerMask(mask: BlockMask): AttnPlan {
  const rows = rowsPerHead(mask);
  const total = mask.batch * mask.maskHeads * rows;
  checkLists(mask, total);
  const rangeBeg = new Int32Array(total);
  const rangeCnt = new Int32Array(total);
  const colBeg = new Int32Array(total);
  const colCnt = new Int32Array(total);
  const work = new Uint32Array(total);
  const lowering = new Lowering(mask, rows);
  for (let row = 0; row < total; row++) {
    rangeBeg[row] = lowering.ranges.length / 3;
    colBeg[row] = lowering.cols.length;
    work[row] = lowering.row(row);
    rangeCnt[row] = lowering.ranges.length / 3 - rangeBeg[row];
    colCnt[row] = lowering.cols.length - colBeg[row];
  }
  const { batch, maskHeads, blockQ, headMap, lenQ, lenK, qOffset, causal, window, positions, segments } = mask;
  const lowered = {
    ...{ batch, maskHeads, rowsPerHead: rows, blockQ, headMap, lenQ, lenK, qOffset, causal, window, positions, segments },
    ...{ rangeBeg, rangeCnt, colBeg, colCnt, work },
    ...lowering.lists(),
    order: byWork(work),
  };
  const cells = Uint32Array.from({ length: total }, (_, row) => countCells(lowered, row));
  return { ...lowered, cells, stats: planStats({ ...lowered, cells }) };
}

function checkLists(mask: BlockMask, rows: number): void {
  for (const [name, pointer] of Object.entries({ rowPtr: mask.rowPtr, colPtr: mask.colPtr, rangePtr: mask.rangePtr })) {
    if (pointer && pointer.length !== rows + 1)
      throw new OptionError(`lowerMask: ${name} has ${pointer.length} items for ${rows} rows, one more is expected`);
  }
  const heads = mask.batch * mask.maskHeads;
  if (mask.slashPtr && mask.slashPtr.length !== heads + 1)
    throw new OptionError(`lowerMask: slashPtr has ${mask.slashPtr.length} items for ${heads} heads, one more is expected`);
  if (mask.kind?.some((kind) => kind > 1) && !(mask.bitPtr && mask.bits))
    throw new OptionError('lowerMask: blocks of kind 2 and 3 need bitPtr and bits');
}

/** Rows by descending work; ties in order. */
function byWork(work: Uint32Array): Int32Array {
  const most = work.reduce((a, b) => Math.max(a, b), 0);
  const keys = Float64Array.from(work, (own, row) => (most - own) * work.length + row).sort();
  return Int32Array.from(keys, (key) => key % work.length);
}

/** Lowers row after row. */
class Lowering {
  readonly ranges = new Words();
  readonly cols = new Words();
  readonly #colBits = new Words();
  readonly #bits = new Words();
  readonly #segments: RowSegments;
  readonly #words: number;
  /** Slashes of each head, farthest first, so that their keys ascend. */
  readonly #slashes: Int32Array[];
  readonly #byIndex: boolean;

  constructor(
    readonly mask: BlockMask,
    readonly rows: number,
  ) {
    this.#words = Math.ceil(mask.blockQ / 32);
    if (mask.bits) this.#bits.append(mask.bits);
    this.#segments = new RowSegments(this.#words, this.#bits);
    const { slashPtr, slashes } = mask;
    this.#slashes =
      slashPtr && slashes
        ? Array.from({ length: slashPtr.length - 1 }, (_, head) =>
            slashes
              .slice(slashPtr[head], slashPtr[head + 1])
              .sort()
              .reverse(),
          )
        : [];
    this.#byIndex = !mask.positions;
  }

  lists(): Pick<AttnPlan, 'ranges' | 'cols' | 'bits' | 'colBits'> {
    const bits = this.#bits.length > 0 ? new Uint32Array(this.#bits.take().buffer) : undefined;
    const colBits = this.mask.colBits ? new Uint32Array(this.#colBits.take().buffer) : undefined;
    return { ranges: this.ranges.take(), cols: this.cols.take(), bits, colBits };
  }

  /** Appends the ranges and columns of a row; returns how many keys those are. */
  row(row: number): number {
    const { mask } = this;
    const batch = Math.floor(row / (mask.maskHeads * this.rows));
    const first = mask.qOffset[batch] + (row % this.rows) * mask.blockQ;
    const last = Math.min(first + mask.blockQ, mask.qOffset[batch] + mask.lenQ[batch]) - 1;
    if (last < first) return 0;
    const limit = mask.causal && this.#byIndex ? Math.min(mask.lenK[batch], last + 1) : mask.lenK[batch];
    const floor = mask.window > 0 && this.#byIndex ? Math.max(0, first + 1 - mask.window) : 0;
    this.#collect(row, first, floor, limit);
    const columns = this.#columns(row, floor, limit);
    const [begin, beginColumns] = [this.ranges.length, this.cols.length];
    let keys = 0;
    this.#segments.merge((start, end, flag) => {
      keys += end - start;
      if (flag > 1 || !this.#byIndex || mask.segments) this.#push(begin, start, end, flag);
      else this.#split(begin, start, end, first, last);
    });
    this.#addColumns(columns, begin);
    return keys + this.cols.length - beginColumns;
  }

  #collect(row: number, first: number, floor: number, limit: number): void {
    const { mask } = this;
    const found = this.#segments;
    found.clear();
    for (let index = mask.rowPtr[row]; index < mask.rowPtr[row + 1]; index++) {
      const start = mask.colIdx[index] * mask.blockK;
      const kind = mask.kind?.[index] ?? 1;
      const flag = kind < 2 ? 1 : 2 * (mask.bitPtr?.[index] ?? 0) + kind;
      found.add(start, start + mask.blockK, flag, floor, limit);
    }
    found.endList();
    if (mask.rangePtr && mask.ranges) {
      for (let index = mask.rangePtr[row]; index < mask.rangePtr[row + 1]; index++) {
        const flag = Math.max(1, mask.rangeFlags?.[index] ?? 1);
        found.add(mask.ranges[2 * index], mask.ranges[2 * index + 1], flag, floor, limit);
      }
      found.endList();
    }
    const slashes = this.#slashes.at(Math.floor(row / this.rows));
    if (slashes) {
      for (const slash of slashes) found.add(first - slash, first - slash + mask.blockQ, 1, floor, limit);
      found.endList();
    }
  }

  /** Places in `cols` of a row's columns, ascending; those that share a key with bits become segments of one key. */
  #columns(row: number, floor: number, limit: number): number[] {
    const { colPtr, cols, colBits } = this.mask;
    if (!colPtr || !cols) return [];
    const places: number[] = [];
    const joined: number[] = [];
    for (let place = colPtr[row]; place < colPtr[row + 1]; place++) {
      if (cols[place] < floor || cols[place] >= limit) continue;
      (this.#segments.bitsCover(cols[place]) ? joined : places).push(place);
    }
    for (const place of joined) {
      const flag = colBits ? 2 + 2 * this.#bits.length : 1;
      if (colBits) this.#bits.append(colBits.subarray(place * this.#words, (place + 1) * this.#words));
      this.#segments.add(cols[place], cols[place] + 1, flag, floor, limit);
    }
    this.#segments.endList();
    return places.sort((a, b) => cols[a] - cols[b]);
  }

  /** Columns outside of the row's ranges, which have no bits there; of columns that are named twice, bits are joined. */
  #addColumns(places: readonly number[], begin: number): void {
    const { cols = new Int32Array(0), colBits } = this.mask;
    let range = begin;
    let before = -1;
    for (const place of places) {
      const key = cols[place];
      while (range < this.ranges.length && this.ranges.at(range + 1) <= key) range += 3;
      if (range < this.ranges.length && this.ranges.at(range) <= key) continue;
      const own = colBits?.subarray(place * this.#words, (place + 1) * this.#words);
      if (key !== before) {
        this.cols.push(key);
        if (own) this.#colBits.append(own);
      } else if (own) {
        const at = this.#colBits.length - this.#words;
        for (const [word, bits] of own.entries()) this.#colBits.set(at + word, this.#colBits.at(at + word) | bits);
      }
      before = key;
    }
  }

  /** Only keys after the first query's position, and before the last query's window, need a test cell by cell. */
  #split(begin: number, start: number, end: number, first: number, last: number): void {
    const { causal, window } = this.mask;
    const clearStart = window > 0 ? Math.min(Math.max(start, last + 1 - window), end) : start;
    const clearEnd = causal ? Math.max(Math.min(end, first + 1), clearStart) : end;
    this.#push(begin, start, clearStart, 1);
    this.#push(begin, clearStart, clearEnd, 0);
    this.#push(begin, clearEnd, end, 1);
  }

  #push(begin: number, start: number, end: number, flag: number): void {
    if (end <= start) return;
    const at = this.ranges.length - 3;
    if (at >= begin && flag < 2 && this.ranges.at(at + 1) === start && this.ranges.at(at + 2) === flag) {
      this.ranges.set(at + 1, end);
      return;
    }
    this.ranges.push(start);
    this.ranges.push(end);
    this.ranges.push(flag);
  }
}
