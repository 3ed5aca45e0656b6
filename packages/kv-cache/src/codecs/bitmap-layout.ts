/**
 * Numbers of a page that are kept, in half precision, and where they belong.
 *
 * The matrix is that of the other formats — rows × columns in groups of 32: of keys channels × entries, of values entries × channels —, and a group of a row
 * is 32 bits, the lowest for its first column, of the columns that are kept. Every entry keeps as many numbers, so that pages have one size; what a vector
 * that begins at the last number reads beyond it are bits.
 *
 * numbers f16: keys [group][row][kept columns], of which a group has 32 · kept; values [row][kept columns], of which a row has `kept`
 * bits u32: keys [group][padded row]; values [row][group]
 * offsets u16, of keys [group][padded row]: numbers of the group before the row. Of values they are sums of few bits.
 */
export interface BitmapLayout {
  /** Numbers of an entry that are kept: dim − ⌊dim · sparsity⌋. */
  readonly kept: number;
  readonly bitsAt: number;
  readonly offsetsAt: number;
}

/** Tenths of an entry's numbers that a format drops; undefined where all are kept as codes. */
export function bitmapTenths(format: string): number | undefined {
  return format.startsWith('bitmap') ? Number(format.slice('bitmap'.length)) / 10 : undefined;
}

export function bitmapLayout(
  tenths: number,
  { side, pageSize, dim, paddedRows, groups }: BitmapSize,
): BitmapLayout & { readonly bytes: number } {
  // Of whole numbers: 0.7 · 10 is not 7.
  const kept = dim - Math.floor((dim * tenths) / 10);
  const bitsAt = 2 * kept * pageSize;
  const offsetsAt = bitsAt + 4 * groups * (side === 'keys' ? paddedRows : pageSize);
  return { kept, bitsAt, offsetsAt, bytes: offsetsAt + (side === 'keys' ? 2 * groups * paddedRows : 0) };
}

interface BitmapSize {
  readonly side: 'keys' | 'values';
  readonly pageSize: number;
  readonly dim: number;
  readonly paddedRows: number;
  readonly groups: number;
}
