import { f16ToNumber, numberToF16 } from '@filigree/core-tensor';
import type { BitmapLayout } from './bitmap-layout.js';
import { codedCell, groupColumns, type CodedLayout } from './layout.js';

/** A layout of pages of which some numbers are kept. */
export type Pruned = CodedLayout & { readonly bitmap: BitmapLayout };

export function isPruned(layout: CodedLayout): layout is Pruned {
  return layout.bitmap !== undefined;
}

/** Rows [P, D] of one head → the bytes of its page, which arrive as 0. Of every entry the largest magnitudes are kept; of equal ones, lower channels. */
export function encodePruned(layout: Pruned, rows: ArrayLike<number>, page: Uint8Array): void {
  const { dim, pageSize, bitmap } = layout;
  const view = new DataView(page.buffer, page.byteOffset, page.byteLength);
  for (let entry = 0; entry < pageSize; entry++) {
    const magnitude = (channel: number): number => Math.abs(rows[entry * dim + channel]);
    const order = Array.from({ length: dim }, (_, channel) => channel).sort((a, b) => magnitude(b) - magnitude(a) || a - b);
    for (const channel of order.slice(0, bitmap.kept)) {
      const [row, column] = codedCell(layout, entry, channel);
      const at = bitsOf(layout, row, column);
      view.setUint32(at, view.getUint32(at, true) | (1 << (column % groupColumns)), true);
    }
  }
  for (let row = 0; row < layout.paddedRows; row++) {
    for (let group = 0; group < layout.groups; group++) {
      if (layout.side === 'keys') view.setUint16(offsetOf(layout, row, group), numbersBefore(layout, view, row, group), true);
    }
  }
  for (let entry = 0; entry < pageSize; entry++) {
    for (let channel = 0; channel < dim; channel++) {
      const at = placeOf(layout, view, ...codedCell(layout, entry, channel));
      if (at !== undefined) view.setUint16(at, numberToF16(rows[entry * dim + channel]), true);
    }
  }
}

/** The rows [P, D] that a page of one head decodes to. */
export function decodePruned(layout: Pruned, page: Uint8Array, rows: { [index: number]: number }): void {
  const view = new DataView(page.buffer, page.byteOffset, page.byteLength);
  for (let entry = 0; entry < layout.pageSize; entry++) {
    for (let channel = 0; channel < layout.dim; channel++) {
      const at = placeOf(layout, view, ...codedCell(layout, entry, channel));
      rows[entry * layout.dim + channel] = at === undefined ? 0 : f16ToNumber(view.getUint16(at, true));
    }
  }
}

/** Byte of a number; undefined when it was dropped. */
function placeOf(layout: Pruned, view: DataView, row: number, column: number): number | undefined {
  const { side, bitmap } = layout;
  const bits = view.getUint32(bitsOf(layout, row, column), true);
  const own = 1 << (column % groupColumns);
  if ((bits & own) === 0) return undefined;
  const group = Math.floor(column / groupColumns);
  const before = countBits(bits & (own - 1));
  if (side === 'values') {
    let inRow = before;
    for (let other = 0; other < group; other++)
      inRow += countBits(view.getUint32(bitsOf(layout, row, other * groupColumns), true));
    return 2 * (row * bitmap.kept + inRow);
  }
  return 2 * (group * groupColumns * bitmap.kept + view.getUint16(offsetOf(layout, row, group), true) + before);
}

/** Byte of the bits of the group that a column is in. */
function bitsOf({ side, groups, paddedRows, bitmap }: Pruned, row: number, column: number): number {
  const group = Math.floor(column / groupColumns);
  return bitmap.bitsAt + 4 * (side === 'keys' ? group * paddedRows + row : row * groups + group);
}

function offsetOf({ paddedRows, bitmap }: Pruned, row: number, group: number): number {
  return bitmap.offsetsAt + 2 * (group * paddedRows + row);
}

/** Numbers of a group of keys in the rows before. */
function numbersBefore(layout: Pruned, view: DataView, row: number, group: number): number {
  if (row === 0) return 0;
  const above = view.getUint32(bitsOf(layout, row - 1, group * groupColumns), true);
  return view.getUint16(offsetOf(layout, row - 1, group), true) + countBits(above);
}

function countBits(bits: number): number {
  let count = 0;
  for (let rest = bits >>> 0; rest !== 0; rest = (rest & (rest - 1)) >>> 0) count++;
  return count;
}
