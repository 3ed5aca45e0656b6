const units = ['bytes', 'kB', 'MB', 'GB'] as const;

/** Bytes in decimal units: `98.4 MB`. */
export function formatBytes(bytes: number): string {
  let [value, unit] = [bytes, 0];
  while (value >= 1000 && unit < units.length - 1) [value, unit] = [value / 1000, unit + 1];
  return `${unit === 0 ? value : significant(value)} ${units[unit]}`;
}

/** Milliseconds, or seconds from one second on. */
export function formatDuration(ms: number): string {
  return ms < 1000 ? `${Math.round(ms)} ms` : `${significant(ms / 1000)} s`;
}

/** Tokens per second; undefined before there is anything to divide. */
export function formatRate(tokens: number, ms: number): string | undefined {
  return tokens > 0 && ms > 0 ? `${significant((1000 * tokens) / ms)} tokens/s` : undefined;
}

/** A share from 0 to 1 in percent, never rounded up to the whole. */
export function formatShare(share: number): string {
  return `${Math.min(share < 1 ? 99.9 : 100, Math.round(1000 * share) / 10)} %`;
}

/** Three digits where there are as many. */
function significant(value: number): string {
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
}
