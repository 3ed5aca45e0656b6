import Table from 'cli-table3';

/** A column: its title, and `right` for numbers. */
export type Column = string | { readonly title: string; readonly right: true };

/** A column of numbers. */
export const right = (title: string): Column => ({ title, right: true });

const noBorders = {
  top: '',
  'top-mid': '',
  'top-left': '',
  'top-right': '',
  bottom: '',
  'bottom-mid': '',
  'bottom-left': '',
  'bottom-right': '',
  left: '',
  'left-mid': '',
  mid: '',
  'mid-mid': '',
  right: '',
  'right-mid': '',
  middle: '  ',
};

/** Rows under titles, columns separated by two spaces, no line with trailing spaces. */
export function table(
  columns: readonly Column[],
  rows: readonly (readonly string[])[],
  title: (text: string) => string = (text) => text,
): string {
  const grid = new Table({
    head: columns.map((column) => title(typeof column === 'string' ? column : column.title)),
    colAligns: columns.map((column) => (typeof column === 'string' ? 'left' : 'right')),
    chars: noBorders,
    style: { head: [], border: [], 'padding-left': 0, 'padding-right': 0 },
  });
  grid.push(...rows.map((row) => [...row]));
  return grid
    .toString()
    .split('\n')
    .map((line) => line.trimEnd())
    .join('\n');
}

/** Names and values, one pair a line; pairs without a value are left out. */
export function pairs(entries: readonly (readonly [string, string | undefined])[]): string {
  const shown = entries.filter((entry): entry is readonly [string, string] => entry[1] !== undefined);
  const width = Math.max(0, ...shown.map(([name]) => name.length));
  return shown.map(([name, value]) => `${name.padEnd(width)}  ${value}`).join('\n');
}
