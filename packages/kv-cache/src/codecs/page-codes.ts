import { f16ToNumber, numberToF16 } from '@filigree/core-tensor';
import { decodePruned, encodePruned, isPruned } from './bitmap-codes.js';
import { codedCell, codePlace, groupColumns, isTurbo, scaleOf, type CodedLayout } from './layout.js';
import { levelsOf, shortened, type Levels } from './turbo-levels.js';

/** The largest magnitude that half precision holds: larger numbers, and those that are not finite, are not encoded. */
const largestHalf = 65504;
/** The largest mean square of an entry whose scale half precision holds, but for the rounding of a rotation. */
const largestMeanSquare = 2 ** 32;
/** Numbers below count as 0 where squares are summed. */
const smallestSquared = 2 ** -60;
/** The smallest normal number of f32: devices may take what is below for 0. */
const smallestNormal = 2 ** -126;

/** Whether half precision holds what it has to of rows [P, D]: their numbers, or of entries with levels the root of the mean square. */
export function encodable({ format, dim }: CodedLayout, rows: ArrayLike<number>): boolean {
  if (!isTurbo(format)) return Array.prototype.every.call(rows, (value: number) => Math.abs(value) <= largestHalf);
  for (let at = 0; at < rows.length; at += dim) if (!(squaresOf(rows, at, dim) <= largestMeanSquare * dim)) return false;
  return true;
}

/**
 * Rows [P, D] of one head → the bytes of its page, which arrive as 0. Scales and zeros are half-precision numbers rounded so that no value is clipped: the
 * zero down, the scale up. Codes are taken relative to them as they are stored and rounded half to even.
 */
export function encodePage(layout: CodedLayout, rows: ArrayLike<number>, page: Uint8Array): void {
  const levels = levelsOf(layout.format);
  if (levels) encodeLevels(layout, levels, rows, page);
  else if (isPruned(layout)) encodePruned(layout, rows, page);
  else if (layout.format === 'int8') encodeEntries(layout, rows, page);
  else encodeGroups(layout, rows, page);
}

/** The rows [P, D] that a page of one head decodes to. */
export function decodePage(layout: CodedLayout, page: Uint8Array, rows: { [index: number]: number }): void {
  if (isPruned(layout)) {
    decodePruned(layout, page, rows);
    return;
  }
  const mask = 2 ** layout.bits - 1;
  const levels = levelsOf(layout.format)?.values;
  for (let entry = 0; entry < layout.pageSize; entry++) {
    for (let channel = 0; channel < layout.dim; channel++) {
      const [row, column] = codedCell(layout, entry, channel);
      const { byte, shift } = codePlace(layout, row, column);
      const which = scaleOf(layout, row, column);
      const scale = getHalf(page, layout.scalesAt, which);
      const code = layout.bits === 8 ? (page[byte] << 24) >> 24 : (page[byte] >> shift) & mask;
      const zero = layout.perEntry ? 0 : getHalf(page, layout.zerosAt, which);
      rows[entry * layout.dim + channel] = Math.fround((levels ? levels[code] : code) * scale + zero);
    }
  }
}

/** A scale per entry. */
function encodeEntries(layout: CodedLayout, rows: ArrayLike<number>, page: Uint8Array): void {
  const { dim, pageSize } = layout;
  for (let entry = 0; entry < pageSize; entry++) {
    let most = 0;
    for (let channel = 0; channel < dim; channel++) most = Math.max(most, Math.abs(rows[entry * dim + channel]));
    const bits = scaleOver(most, 127);
    putHalf(page, layout.scalesAt, entry, bits);
    for (let channel = 0; channel < dim; channel++) {
      const [row, column] = codedCell(layout, entry, channel);
      page[codePlace(layout, row, column).byte] = clamp(
        roundHalfEven(rows[entry * dim + channel] / f16ToNumber(bits)),
        -127,
        127,
      );
    }
  }
}

/** A scale per entry, the root of the mean square; codes are the nearest levels. */
function encodeLevels(layout: CodedLayout, { thresholds }: Levels, rows: ArrayLike<number>, page: Uint8Array): void {
  const { dim, pageSize } = layout;
  for (let entry = 0; entry < pageSize; entry++) {
    const bits = scaleOfSquares(squaresOf(rows, entry * dim, dim), dim);
    putHalf(page, layout.scalesAt, entry, bits);
    const scale = f16ToNumber(bits);
    for (let channel = 0; channel < dim; channel++) {
      const [row, column] = codedCell(layout, entry, channel);
      const { byte, shift } = codePlace(layout, row, column);
      const value = rows[entry * dim + channel];
      page[byte] |= thresholds.filter((threshold) => value > threshold * scale).length << shift;
    }
  }
}

/** A scale and a zero per row of a group. */
function encodeGroups(layout: CodedLayout, rows: ArrayLike<number>, page: Uint8Array): void {
  const levels = 2 ** layout.bits - 1;
  for (let first = 0; first < layout.columns; first += groupColumns) {
    const end = Math.min(first + groupColumns, layout.columns);
    for (let row = 0; row < layout.rows; row++) {
      const value = (column: number): number =>
        rows[layout.side === 'keys' ? column * layout.dim + row : row * layout.dim + column];
      let [low, high] = [value(first), value(first)];
      for (let column = first; column < end; column++) {
        low = Math.min(low, value(column));
        high = Math.max(high, value(column));
      }
      const zeroBits = halfBelow(low);
      const zero = f16ToNumber(zeroBits);
      const scaleBits = scaleOver(Math.fround(high - zero), levels);
      putHalf(page, layout.scalesAt, scaleOf(layout, row, first), scaleBits);
      putHalf(page, layout.zerosAt, scaleOf(layout, row, first), zeroBits);
      for (let column = first; column < end; column++) {
        const steps = roundHalfEven(Math.fround(value(column) - zero) / f16ToNumber(scaleBits));
        const { byte, shift } = codePlace(layout, row, column);
        page[byte] |= clamp(steps, 0, levels) << shift;
      }
    }
  }
}

function getHalf(page: Uint8Array, start: number, index: number): number {
  const at = start + 2 * index;
  return f16ToNumber(page[at] | (page[at + 1] << 8));
}

function putHalf(page: Uint8Array, start: number, index: number, bits: number): void {
  const at = start + 2 * index;
  page[at] = bits & 255;
  page[at + 1] = bits >> 8;
}

/** Bits of the largest half-precision number that is not above `value`; zero is positive. */
function halfBelow(value: number): number {
  if (value === 0) return 0;
  const bits = numberToF16(value);
  if (f16ToNumber(bits) <= value) return bits;
  if ((bits & 0x7fff) === 0) return 0x8001;
  return bits & 0x8000 ? bits + 1 : bits - 1;
}

/** Bits of the smallest half-precision number of which `levels` reach `range`; of 1 where there is no range. */
function scaleOver(range: number, levels: number): number {
  if (range < smallestNormal) return 0x3c00;
  const reaches = (bits: number): boolean => f16ToNumber(bits) * levels >= range;
  let bits = numberToF16(range / levels);
  while (!reaches(bits)) bits++;
  while (bits > 1 && reaches(bits - 1)) bits--;
  return bits;
}

/** The sum of the squares of an entry; every square is exact. */
function squaresOf(rows: ArrayLike<number>, at: number, dim: number): number {
  let squares = 0;
  for (let index = at; index < at + dim; index++)
    squares = Math.fround(squares + (Math.abs(rows[index]) < smallestSquared ? 0 : shortened(rows[index]) ** 2));
  return squares;
}

/** Bits of the smallest half-precision number whose square `dim` times reaches the sum; of the largest one where none does. */
function scaleOfSquares(squares: number, dim: number): number {
  const reaches = (bits: number): boolean => f16ToNumber(bits) ** 2 * dim >= squares;
  let bits = numberToF16(Math.min(largestHalf, Math.sqrt(squares / dim)));
  while (bits < numberToF16(largestHalf) && !reaches(bits)) bits++;
  while (bits > 0 && reaches(bits - 1)) bits--;
  return bits;
}

function roundHalfEven(value: number): number {
  const floor = Math.floor(value);
  const rest = value - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 !== 0) ? floor + 1 : floor;
}

function clamp(value: number, low: number, high: number): number {
  return Math.min(high, Math.max(low, value));
}
