import type { SpecialTokens } from '../tokenizer/special-tokens.js';
import { ChatTemplateError } from './errors.js';

/** Contents in which no special token's text is left whole, and how to find those that are still there. */
export interface HiddenTexts {
  readonly texts: readonly string[];
  /** Breaks the texts of special tokens. */
  readonly mark: string;
  /** Comes after a special token of a single character, which cannot be broken: such a one is plain text. */
  readonly plainMark: string;
}

/**
 * Breaks the texts of special tokens in contents with a mark after their first character. A template that copies contents copies the marks
 * too, so that a whole special token in its output is the template's own. What the template or a neighbour could complete is broken as
 * well: beginnings of special tokens at the end of a content, ends of them at its beginning and contents that are the middle of one, with
 * and without white space around, which templates trim. A template that changes the letters of contents could still make one.
 *
 * @param names texts of the special tokens
 * @param special finds them
 * @param around other text that has none of the marks
 */
export function hideSpecialTokens(
  contents: readonly string[],
  names: readonly string[],
  special: SpecialTokens,
  around: string,
): HiddenTexts {
  const [mark, plainMark] = unusedCharacters([around, ...contents, ...names]);
  const hide = (content: string): string => {
    const marks = new Map<number, string>();
    for (const trimmed of new Set([content, content.trim()])) {
      const first = content.indexOf(trimmed);
      for (const name of names) for (const place of seams(trimmed, name)) marks.set(first + place, mark);
    }
    for (let start = 0; start < content.length; start++) {
      const { end } = special.longestAt(content, start);
      if (end < 0) continue;
      const place = breakingPlace(content, start, end);
      if (!marks.has(place)) marks.set(place, mark);
      const after = start + characterLength(content, start);
      if (special.longestAt(content.slice(start, after), 0).end >= 0) marks.set(after, plainMark);
    }
    return insertAt(content, marks);
  };
  return { texts: contents.map(hide), mark, plainMark };
}

/** Where to break a text that text around it could complete to `name`. */
function seams(text: string, name: string): number[] {
  if (text === '') return [];
  const places: number[] = [];
  if (beginsWithEnd(text, name) || isMiddle(text, name)) places.push(text.trim() === '' ? 0 : text.search(/\S/u));
  const closing = closingStart(text, name);
  if (closing >= 0) places.push(breakingPlace(text, closing, text.length));
  return places;
}

/** Inside of a special token, or of its part: never between white space and an end of the content, where trimming takes it away. */
function breakingPlace(text: string, start: number, end: number): number {
  const solid = text.slice(start, end).search(/\S/u);
  return solid > 0 ? start + solid : start + characterLength(text, start);
}

/** Whether the text begins with an end of `name`. */
function beginsWithEnd(text: string, name: string): boolean {
  const first = text.charCodeAt(0);
  for (let from = 1; from < name.length; from++) {
    if (name.charCodeAt(from) !== first) continue;
    const end = name.slice(from);
    if (text.startsWith(end) && end.trim() !== '') return true;
  }
  return false;
}

function isMiddle(text: string, name: string): boolean {
  const start = name.indexOf(text, 1);
  return start >= 0 && start + text.length < name.length;
}

/** Where the text ends with a beginning of `name`; -1 for nowhere. */
function closingStart(text: string, name: string): number {
  const last = text.charCodeAt(text.length - 1);
  for (let length = Math.min(name.length - 1, text.length); length > 0; length--) {
    if (name.charCodeAt(length - 1) !== last) continue;
    const beginning = name.slice(0, length);
    if (text.endsWith(beginning) && beginning.trim() !== '') return text.length - length;
  }
  return -1;
}

function insertAt(text: string, marks: ReadonlyMap<number, string>): string {
  let result = '';
  let done = 0;
  for (const [place, mark] of [...marks].sort(([a], [b]) => a - b)) {
    result += text.slice(done, place) + mark;
    done = place;
  }
  return result + text.slice(done);
}

function characterLength(text: string, at: number): number {
  return (text.codePointAt(at) ?? 0) > 0xffff ? 2 : 1;
}

/** Two private-use characters that none of the texts has. */
function unusedCharacters(texts: readonly string[]): [string, string] {
  const free: string[] = [];
  for (let unit = 0xf8ff; unit >= 0xe000; unit--) {
    const character = String.fromCharCode(unit);
    if (!texts.some((text) => text.includes(character))) free.push(character);
    const [first, second] = free;
    if (first !== undefined && second !== undefined) return [first, second];
  }
  throw new ChatTemplateError(
    'the contents use every private-use character of the basic plane; two must be free to mark plain text with',
  );
}
