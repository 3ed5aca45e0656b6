import { defineOp, ExecutionError, OptionError, ShapeError, type Tensor } from '@filigree/core-tensor';
import { lowerSelectionKernel } from './lower-kernel.js';
import { planVersion } from '../pack-plan.js';
import { expectArgument, expectHeads, expectIntegers, lengthsOf, wordsOf } from './row-blocks.js';
import { lowerCases } from './lower-cases.js';
import { rowCells, splitRange, visibleMarks, type RowBounds } from './lower-row.js';
import { layoutOf, sourceHead, type LoweredLayout, type LoweringSizes, type SelectionMetas } from './lowered-layout.js';

/**
 * Bits of a selection → the packed plan that executors read, with the meaning of a `BlockMask`: what `lowerMask` does, where the bits are.
 *
 * blocks?, moreBlocks? u32 [B,n,R or 1,ceil(C/32)]: key blocks of blockK, or-ed   columns? u32 [B,n,G,ceil(capacity/32)]: keys, group r / ⌈R/G⌉ of row block r
 * slashes? u32 [B,n,1,ceil(⌈capacity/slashStep⌉/32)]: bit i stands for the offset o = i·slashStep, keys [a − o, a − o + blockQ) of the row block from position a
 * ranges? i32 [R or 1,m,2]: (start, end) of keys; a negative start counts from a + 1 backwards, an end ≤ 0 from the last query's position + 1. So (0, 4) are
 * four sinks, (−W, 0) the window W, (0, 0) everything   lengths? i32 [B,2]   kvMap? i32 [Hq]   plan i32 [words], version 2   cells f32 [B,Hm,R]
 *
 * Hm is the largest n; other sources have as many heads, one for all, or, where Hm is Hq, one per key-value head. Query head h reads mask head h of Hq, 0 of one, or that
 * of its key-value head. The last `excluded` ranges of each row are cut out of everything else: keys that another part has. Of the slashes the first `maxSlashes`
 * count (−1: all), of a row's columns outside of its ranges the first `maxColumns` (−1: all). Six inputs at most are given at once.
 *
 * Row r has its ranges in slots from r · maxRanges, which follows from shapes and attributes; what is unused is 0. Causal; `window` as in the mask.
 */
export const lowerSelectionOp = /* @__PURE__ */ defineOp({
  name: 'sparse-attention/lower-selection',
  inputs: ['blocks?', 'moreBlocks?', 'columns?', 'slashes?', 'ranges?', 'lengths?', 'kvMap?'],
  outputs: ['plan', 'cells'],
  attributes: {
    /** Queries of the call, which the plan's row blocks cover. */
    lengthQ: { type: 'number' },
    /** Query heads. */
    heads: { type: 'number' },
    blockQ: { type: 'number' },
    blockK: { type: 'number', default: 64 },
    /** Keys that k can hold. */
    capacity: { type: 'number' },
    slashStep: { type: 'number', default: 1 },
    maxSlashes: { type: 'number', default: -1 },
    maxColumns: { type: 'number', default: -1 },
    excluded: { type: 'number', default: 0 },
    window: { type: 'number', default: 0 },
  },
  infer(inputs, { excluded, window, ...sizes }) {
    const op = 'lower-selection';
    const { lengthQ, heads, capacity, blockQ, blockK, slashStep, maxSlashes, maxColumns } = sizes;
    expectIntegers(op, { lengthQ, capacity, excluded, window }, 0);
    expectIntegers(op, { heads, blockQ, blockK, slashStep }, 1);
    expectIntegers(op, { maxSlashes, maxColumns }, -1);
    const layout = layoutOf(inputs, sizes);
    checkSources(op, inputs, sizes, layout);
    if (excluded > (inputs.ranges?.shape[1] ?? 0))
      throw new OptionError(`${op}: excluded is ${excluded}, ranges has ${inputs.ranges?.shape[1] ?? 0} of a row`);
    if (layout.words > 2 ** 30)
      throw new ShapeError(`${op}: a plan of ${layout.words} words is too large; set maxColumns and maxSlashes`);
    return {
      plan: { shape: [layout.words], dtype: 'i32' },
      cells: { shape: [layout.batch, layout.maskHeads, layout.rows], dtype: 'f32' },
    };
  },
  reference(io, attributes) {
    const { plan, cells, kvMap } = io;
    const { blockQ, lengthQ, capacity, window } = attributes;
    const layout = layoutOf(io, attributes);
    const { batch: batches, heads, maskHeads, rows, sections } = layout;
    const put = (word: number, index: number, value: number): void => {
      plan.data[(sections.get(word) ?? 0) + index] = value;
    };
    plan.data.set([planVersion, batches, maskHeads, rows, blockQ, 1, window, layout.words]);
    plan.data[29] = heads;
    for (const [word, at] of sections) plan.data[word] = at;
    for (let head = 0; head < heads; head++) {
      const own = sourceHead(head, heads, maskHeads, kvMap?.data);
      if (own < 0 || own >= maskHeads) throw new ExecutionError(`lower-selection: kvMap sends head ${head} to ${own}`);
      put(8, head, own);
      if (kvMap) put(21, head, kvMap.data[head]);
    }
    for (let batch = 0; batch < batches; batch++) {
      const length = lengthsOf('lower-selection', io.lengths, batch, { queries: lengthQ, keys: capacity });
      const offset = length.keys - length.queries;
      put(9, batch, offset);
      put(10, batch, length.queries);
      put(11, batch, length.keys);
      for (let maskHead = 0; maskHead < maskHeads; maskHead++) {
        for (let block = 0; block < rows; block++) {
          const row = (batch * maskHeads + maskHead) * rows + block;
          put(12, row, row * layout.maxRanges);
          put(15, row, row * layout.maxColumns);
          const queries = Math.min(blockQ, length.queries - block * blockQ);
          if (queries <= 0) continue;
          const first = offset + block * blockQ;
          const bounds = { first, last: first + queries - 1, window };
          const marks = visibleMarks(io, attributes, { batch, maskHead, maskHeads, block, rows, ...bounds });
          const found = writeRow(plan.data, layout, row, marks, bounds);
          put(13, row, found.ranges);
          put(16, row, found.columns);
          put(27, row, found.cells);
          cells.data[row] = found.cells;
        }
      }
    }
  },
  native: 'sparse_attention_lower_selection',
  webgpu: lowerSelectionKernel,
  cases: lowerCases,
});

/** Runs of marked keys become ranges, marked columns outside of them columns. */
function writeRow(
  plan: { [index: number]: number },
  { maxRanges, maxColumns, sections }: LoweredLayout,
  row: number,
  { inRange, inColumn }: ReturnType<typeof visibleMarks>,
  bounds: RowBounds,
): { ranges: number; columns: number; cells: number } {
  const [rangesAt, columnsAt] = [(sections.get(14) ?? 0) + 3 * row * maxRanges, (sections.get(17) ?? 0) + row * maxColumns];
  let [ranges, columns, cells] = [0, 0, 0];
  for (let key = 0; key < inRange.length; key++) {
    if (inRange[key] === 0) {
      if (inColumn[key] === 1 && columns < maxColumns) {
        plan[columnsAt + columns++] = key;
        cells += rowCells(key, bounds);
      }
      continue;
    }
    const start = key;
    while (inRange[key + 1] === 1) key++;
    for (const part of splitRange(start, key + 1, bounds)) {
      for (const [index, value] of part.entries()) plan[rangesAt + 3 * ranges + index] = value;
      ranges++;
    }
    for (let own = start; own <= key; own++) cells += rowCells(own, bounds);
  }
  return { ranges, columns, cells };
}

function checkSources(op: string, inputs: SelectionMetas, sizes: LoweringSizes, layout: LoweredLayout): void {
  const { batch, heads, maskHeads, rows } = layout;
  const { capacity, blockK, slashStep } = sizes;
  const { blocks, moreBlocks, columns, slashes, ranges, lengths, kvMap } = inputs;
  if (Object.values(inputs).filter((meta) => meta !== undefined).length > 6)
    throw new OptionError(`${op}: at most six of its seven inputs can be given at once`);
  const blockWords = wordsOf(Math.ceil(capacity / blockK));
  expectArgument(op, 'blocks', blocks, 'u32', [batch, -1, [rows, 1], blockWords]);
  expectArgument(op, 'moreBlocks', moreBlocks, 'u32', [batch, -1, [rows, 1], blockWords]);
  expectArgument(op, 'columns', columns, 'u32', [batch, -1, -1, wordsOf(capacity)]);
  expectArgument(op, 'slashes', slashes, 'u32', [batch, -1, 1, wordsOf(Math.ceil(capacity / slashStep))]);
  expectArgument(op, 'ranges', ranges, 'i32', [[rows, 1], -1, 2]);
  expectArgument(op, 'lengths', lengths, 'i32', [batch, 2]);
  if (columns?.shape[2] === 0) throw new ShapeError(`${op}: columns has no groups`);
  if (maskHeads !== heads) expectHeads(op, heads, maskHeads, kvMap);
  expectArgument(op, 'kvMap', kvMap, 'i32', [heads]);
  for (const [name, source] of Object.entries({ blocks, moreBlocks, columns, slashes })) {
    const own = source?.shape[1] ?? 1;
    const shared = maskHeads === heads && own > 0 && (kvMap !== undefined || heads % own === 0);
    if (own !== maskHeads && own !== 1 && !shared)
      throw new ShapeError(`${op}: ${name} has ${own} heads, which do not fit ${maskHeads} mask heads of ${heads} query heads`);
  }
}

export interface LowerSelectionOptions {
  readonly lengthQ: number;
  readonly heads: number;
  readonly blockQ: number;
  readonly blockK?: number | undefined;
  readonly capacity: number;
  readonly slashStep?: number | undefined;
  readonly maxSlashes?: number | undefined;
  readonly maxColumns?: number | undefined;
  readonly excluded?: number | undefined;
  readonly window?: number | undefined;
}

/** What a selection can consist of; at least one of them or `lengths` must be given. */
export interface SelectionBits {
  readonly blocks?: Tensor | undefined;
  readonly moreBlocks?: Tensor | undefined;
  readonly columns?: Tensor | undefined;
  readonly slashes?: Tensor | undefined;
  readonly ranges?: Tensor | undefined;
  readonly lengths?: Tensor | undefined;
  readonly kvMap?: Tensor | undefined;
}

/** A plan for the executors from bits on the device; see {@link lowerSelectionOp}. */
export function lowerSelection(selection: SelectionBits, options: LowerSelectionOptions): { plan: Tensor; cells: Tensor } {
  return lowerSelectionOp(selection, options);
}
