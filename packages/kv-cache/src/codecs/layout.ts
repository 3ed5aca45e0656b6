import { OptionError } from '@filigree/core-tensor';
import { bitmapLayout, bitmapTenths, type BitmapLayout } from './bitmap-layout.js';

/**
/**
 * How a coded page is stored: `int8` symmetric per entry, `kivi4` and `kivi2` asymmetric in groups of 32, `turbo4` and `turbo2` levels of the normal
 * distribution, scaled per entry, `bitmap0` to `bitmap90` the numbers that are left of every entry when so many per cent are dropped, in half precision.
 */
export const kvFormats = [
  'int8',
  'kivi4',
  'kivi2',
  'turbo4',
  'turbo2',
  'bitmap0',
  'bitmap10',
  'bitmap20',
  'bitmap30',
  'bitmap40',
  'bitmap50',
  'bitmap60',
  'bitmap70',
  'bitmap80',
  'bitmap90',
] as const;
export type KvFormat = (typeof kvFormats)[number];

/** Keys or values: they are laid out, and grouped, across each other. */
export const kvSides = ['keys', 'values'] as const;
export type KvSide = (typeof kvSides)[number];

/** Columns of a group, which are read into vectors together. */
export const groupColumns = 32;
/** Bytes of a chunk: the codes of 16/bits rows of a group, a cache line. */
export const chunkBytes = 64;
/** What rows are padded to. */
const rowStep = 16;

/**
 * The page of a head as bytes: a matrix of codes, then half-precision scales and, of kivi, zeros.
 *
 * Of keys the rows are channels and the columns entries; of values the rows are entries and the columns channels. Either way attention sums rows into
 * lanes that hold columns, so that nothing is added across lanes, and kivi's groups of 32 — entries of a channel, channels of an entry — are the
 * 32 columns of a row. Columns are cut into groups of 32, rows are padded to a multiple of 16:
 *
 * codes [group][chunk][64 bytes], a chunk being 16/bits rows; `int8`: rows of 32 signed bytes; `kivi`: 16 little-endian words, where word w holds from the
 * lowest bits on column w of row 0, column 16 + w of row 0, column w of row 1, …; `turbo`: as kivi
 * scales, zeros f16: `kivi` [group][padded row] each; `int8` and `turbo` [entry], no zeros
 *
 * `bitmap` has the same matrix, and numbers and bits in place of codes and scales: bitmap-layout.ts.
 */
export interface CodedLayout {
  readonly format: KvFormat;
  readonly side: KvSide;
  readonly pageSize: number;
  readonly dim: number;
  readonly bits: number;
  readonly rows: number;
  readonly columns: number;
  readonly paddedRows: number;
  readonly groups: number;
  /** Bytes of the codes of a group. */
  readonly groupBytes: number;
  /** Whether an entry has one scale and no zero. */
  readonly perEntry: boolean;
  readonly scalesAt: number;
  readonly scales: number;
  /** Where the zeros begin; the end of the page where there are none. */
  readonly zerosAt: number;
  /** Of the page of a head. */
  readonly bytes: number;
  /** Of `bitmap`, which has neither codes nor scales. */
  readonly bitmap?: BitmapLayout | undefined;
}

/** @throws OptionError when pages or head dims are of sizes that there are no coded pages of. */
export function codedLayout(format: KvFormat, side: KvSide, pageSize: number, dim: number): CodedLayout {
  if (!Number.isInteger(pageSize) || pageSize < 1 || pageSize % groupColumns !== 0 || pageSize > 4096)
    throw new OptionError(`coded pages: pageSize is ${pageSize}, it must be a multiple of ${groupColumns} up to 4096`);
  if (!Number.isInteger(dim) || dim < 1 || dim > 1024)
    throw new OptionError(`coded pages: the head dim is ${dim}, it must be a whole number from 1 to 1024`);
  if (isTurbo(format) && !Number.isInteger(Math.log2(dim)))
    throw new OptionError(
      `coded pages: the head dim is ${dim}, ${format} rotates heads whose dim is a power of two; use kivi4`,
    );
  const bits = formatBits(format);
  const perEntry = format === 'int8' || isTurbo(format);
  const [rows, columns] = side === 'keys' ? [dim, pageSize] : [pageSize, dim];
  const paddedRows = Math.ceil(rows / rowStep) * rowStep;
  const groups = Math.ceil(columns / groupColumns);
  const size = { format, side, pageSize, dim, bits, rows, columns, paddedRows, groups };
  const tenths = bitmapTenths(format);
  if (tenths !== undefined) {
    const { bytes, ...bitmap } = bitmapLayout(tenths, size);
    return { ...size, perEntry: false, groupBytes: 0, scalesAt: bytes, scales: 0, zerosAt: bytes, bytes, bitmap };
  }
  const groupBytes = (paddedRows * groupColumns * bits) / 8;
  const scalesAt = groups * groupBytes;
  const scales = perEntry ? pageSize : groups * paddedRows;
  const zerosAt = scalesAt + 2 * scales;
  return {
    ...size,
    ...{ perEntry, groupBytes, scalesAt, scales, zerosAt },
    bytes: perEntry ? zerosAt : zerosAt + 2 * scales,
  };
}

/** Of a number as it is stored. */
export function formatBits(format: KvFormat): number {
  switch (format) {
    case 'int8':
      return 8;
    case 'kivi4':
    case 'turbo4':
      return 4;
    case 'kivi2':
    case 'turbo2':
      return 2;
    default:
      return 16;
  }
}

/** Whether rows are rotated before they are encoded. */
export function isTurbo(format: KvFormat): boolean {
  return format === 'turbo4' || format === 'turbo2';
}

/** Row and column of a channel of an entry. */
export function codedCell({ side }: CodedLayout, entry: number, channel: number): readonly [row: number, column: number] {
  return side === 'keys' ? [channel, entry] : [entry, channel];
}

/** Byte of a code and the bit in it that the code begins at. */
export function codePlace({ bits, groupBytes }: CodedLayout, row: number, column: number): { byte: number; shift: number } {
  const perChunk = 16 / bits;
  const [group, own] = [Math.floor(column / groupColumns), column % groupColumns];
  const chunk = group * groupBytes + Math.floor(row / perChunk) * chunkBytes;
  if (bits === 8) return { byte: chunk + (row % perChunk) * groupColumns + own, shift: 0 };
  const bit = bits * (2 * (row % perChunk) + Math.floor(own / 16));
  return { byte: chunk + 4 * (own % 16) + Math.floor(bit / 8), shift: bit % 8 };
}

/** Which of the scales, and zeros, belongs to a code. */
export function scaleOf({ perEntry, side, paddedRows }: CodedLayout, row: number, column: number): number {
  if (perEntry) return side === 'keys' ? column : row;
  return Math.floor(column / groupColumns) * paddedRows + row;
}
