const units = ['B', 'KB', 'MB', 'GB', 'TB'] as const;

/** Decimal units, three significant digits: `98.4 MB`. */
export function bytes(count: number): string {
  let value = count;
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return unit === 0 ? `${count} B` : `${significant(value)} ${units[unit]}`;
}

/** Three significant digits with a suffix: `134 M` parameters. */
export function amount(count: number): string {
  const scales = [
    [1e12, 'T'],
    [1e9, 'B'],
    [1e6, 'M'],
    [1e3, 'k'],
  ] as const;
  for (const [scale, suffix] of scales) if (count >= scale) return `${significant(count / scale)} ${suffix}`;
  return String(count);
}

export function seconds(milliseconds: number): string {
  return milliseconds < 1000 ? `${Math.round(milliseconds)} ms` : `${significant(milliseconds / 1000)} s`;
}

/** Tokens per second; a dash when there is nothing to divide. */
export function rate(tokens: number, milliseconds: number): string {
  return tokens > 0 && milliseconds > 0 ? significant((tokens * 1000) / milliseconds) : '–';
}

/** 12,345 */
export function grouped(count: number): string {
  return count.toLocaleString('en-US');
}

export function percent(fraction: number): string {
  return `${significant(100 * fraction)} %`;
}

/** Bits per weight of so many bytes. */
export function bitsPerWeight(byteLength: number, weights: number): number {
  return weights === 0 ? 0 : (8 * byteLength) / weights;
}

/** Three significant digits without an exponent; whole numbers stay whole. */
export function significant(value: number): string {
  if (value === 0 || !Number.isFinite(value)) return String(value);
  if (Math.abs(value) >= 1000) return value.toFixed(0);
  const rounded = Number(value.toPrecision(3));
  const digits = Math.max(0, 2 - Math.floor(Math.log10(Math.abs(rounded))));
  return rounded.toFixed(Math.min(digits, 20));
}
