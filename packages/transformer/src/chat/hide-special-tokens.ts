import type { SpecialTokens } from '../tokenizer/special-tokens.js';
import { ChatTemplateError } from './errors.js';

/** Contents in which no special token's text is left whole. */
export interface HiddenTexts {
  readonly texts: readonly string[];
  /** The character that breaks them; it occurs in none of the contents given. */
  readonly mark: string;
}

/**
 * Breaks the texts of special tokens in contents with a mark after their first character. A template that copies contents copies the marks
 * too, so that a whole special token in its output is the template's own. What a neighbour could complete is broken as well: beginnings of
 * special tokens at the end of a content, and ends of them at its beginning, with and without white space around, which templates trim.
 *
 * @param names texts of the special tokens
 * @param special finds them
 */
export function hideSpecialTokens(contents: readonly string[], names: Iterable<string>, special: SpecialTokens): HiddenTexts {
  const mark = unusedCharacter(contents);
  const texts = contents.map((content) => {
    const places = new Set<number>();
    for (let start = 0; start < content.length; start++)
      if (special.longestAt(content, start).end >= 0) places.add(start + characterLength(content, start));
    const trimmed = content.trim();
    for (const name of names) {
      for (const text of new Set([content, trimmed])) {
        const first = text === content ? 0 : content.indexOf(trimmed);
        const opening = openingEnd(text, name);
        if (opening > 0) places.add(first);
        const closing = closingStart(text, name);
        if (closing >= 0) places.add(first + closing + characterLength(text, closing));
      }
    }
    return insertAt(content, places, mark);
  });
  return { texts, mark };
}

/** Length of the end of `name` with which the text begins; 0 for none. */
function openingEnd(text: string, name: string): number {
  const first = text.charCodeAt(0);
  for (let from = 1; from < name.length; from++) {
    if (name.charCodeAt(from) !== first) continue;
    const end = name.slice(from);
    if (text.startsWith(end) && end.trim() !== '') return end.length;
  }
  return 0;
}

/** Where the text ends with a beginning of `name`; -1 for nowhere. */
function closingStart(text: string, name: string): number {
  const last = text.charCodeAt(text.length - 1);
  for (let length = name.length - 1; length > 0; length--) {
    if (name.charCodeAt(length - 1) !== last) continue;
    const beginning = name.slice(0, length);
    if (text.endsWith(beginning) && beginning.trim() !== '') return text.length - length;
  }
  return -1;
}

function insertAt(text: string, places: ReadonlySet<number>, mark: string): string {
  let result = '';
  let done = 0;
  for (const place of [...places].sort((a, b) => a - b)) {
    result += text.slice(done, place) + mark;
    done = place;
  }
  return result + text.slice(done);
}

function characterLength(text: string, at: number): number {
  return (text.codePointAt(at) ?? 0) > 0xffff ? 2 : 1;
}

/** A private-use character that none of the texts has. */
function unusedCharacter(texts: readonly string[]): string {
  for (let unit = 0xf8ff; unit >= 0xe000; unit--) {
    const character = String.fromCharCode(unit);
    if (!texts.some((text) => text.includes(character))) return character;
  }
  throw new ChatTemplateError(
    'the contents use every private-use character of the basic plane; one must be free to mark plain text with',
  );
}
