/** A parsed `Content-Range: bytes start-end/total` (RFC 9110 §14.4); `end` is inclusive, unknown parts are absent. */
export interface ContentRange {
  readonly start?: number;
  readonly end?: number;
  readonly total?: number;
}

/** Parses the header; undefined when it is missing or not one. */
export function parseContentRange(header: string | null): ContentRange | undefined {
  const match = /^bytes (?:(\d+)-(\d+)|\*)\/(\d+|\*)$/.exec(header ?? '');
  if (!match) return undefined;
  const [, start, end, total] = match;
  const range = {
    ...(start === undefined ? {} : { start: Number(start), end: Number(end) }),
    ...(total === '*' ? {} : { total: Number(total) }),
  };
  return Object.values(range).every(Number.isSafeInteger) ? range : undefined;
}
