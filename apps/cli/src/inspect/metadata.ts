import type { GgufArray, GgufValue } from '@filigree/checkpoint';
import { printable, shortened } from '../format/printable.js';

/** Elements of an array that a summary shows. */
const shownElements = 8;

/** A metadata value as JSON: 64-bit integers beyond 2⁵³ become strings; of long arrays the first elements, unless `full`. */
export function metadataJson(entry: GgufValue, full: boolean): Record<string, unknown> {
  if (entry.type !== 'array') return { type: entry.type, value: plain(entry.value, entry.type) };
  const { elementType, values } = entry.value;
  const shown = elements(entry.value).slice(0, full ? undefined : shownElements);
  return { type: 'array', elementType, length: values.length, value: shown.map((value) => plain(value, elementType)) };
}

/** The same on one line of text. */
export function metadataText(entry: GgufValue, full: boolean): string {
  const limit = full ? Infinity : 72;
  if (entry.type !== 'array') return shortened(printable(String(plain(entry.value, entry.type))), limit);
  const shown = elements(entry.value).slice(0, full ? undefined : shownElements);
  const more = entry.value.values.length > shown.length ? ', …' : '';
  const list = shown.map((value) => printable(JSON.stringify(plain(value, entry.value.elementType)))).join(', ');
  return `${entry.value.elementType}[${entry.value.values.length}] ${shortened(`${list}${more}`, limit)}`;
}

function elements({ values }: GgufArray): unknown[] {
  return Array.from<unknown>(values);
}

function plain(value: unknown, type: GgufValue['type']): unknown {
  if (typeof value === 'bigint') return Number.isSafeInteger(Number(value)) ? Number(value) : String(value);
  // JSON has no NaN and no infinities.
  if (typeof value === 'number') return Number.isFinite(value) ? (type === 'f32' ? shortest(value) : value) : String(value);
  if (typeof value === 'object' && value !== null && 'elementType' in value) {
    const inner = value as GgufArray;
    return elements(inner).map((element) => plain(element, inner.elementType));
  }
  return value;
}

/** The f32 with as few digits as tell it from its neighbours: 0.00001, not 0.000009999999747378752. */
function shortest(value: number): number {
  for (let digits = 1; digits < 9; digits++) {
    const candidate = Number(value.toPrecision(digits));
    if (Math.fround(candidate) === value) return candidate;
  }
  return value;
}
