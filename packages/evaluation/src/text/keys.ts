import type { Random } from '@filigree/core-tensor';
import { drawn } from './haystack.js';
import { adjectives, nouns } from './words.js';

/** Kinds of keys and values that needles name. */
export type KeyKind = 'words' | 'numbers' | 'uuids';

/** `count` different keys or values: adjective-noun pairs, numbers of seven digits, version 4 UUIDs. */
export function drawKeys(random: Random, kind: KeyKind, count: number): string[] {
  if (kind === 'words') {
    // Pairs without a word in common, so that half a key names nothing, as long as there are words.
    if (count > adjectives.length) return different(count, () => `${pick(random, adjectives)}-${pick(random, nouns)}`);
    const [first, second] = [drawn(random, adjectives, count), drawn(random, nouns, count)];
    return first.map((adjective, index) => `${adjective}-${second[index]}`);
  }
  return different(count, () => (kind === 'numbers' ? String(1_000_000 + random.nextInt(9_000_000)) : uuid(random)));
}

/** Different numbers of five digits. */
export function drawFiveDigits(random: Random, count: number): string[] {
  return different(count, () => String(10_000 + random.nextInt(90_000)));
}

/** Different words of letters that mean nothing. */
export function drawCodes(random: Random, letters: number, count: number): string[] {
  const letter = (): string => String.fromCharCode(97 + random.nextInt(26));
  return different(count, () => Array.from({ length: letters }, letter).join(''));
}

function different(count: number, next: () => string): string[] {
  const found = new Set<string>();
  while (found.size < count) found.add(next());
  return [...found];
}

function pick<T>(random: Random, items: readonly T[]): T {
  return items[random.nextInt(items.length)];
}

function uuid(random: Random): string {
  const hex = (digits: number): string => Array.from({ length: digits }, () => random.nextInt(16).toString(16)).join('');
  return `${hex(8)}-${hex(4)}-4${hex(3)}-${'89ab'[random.nextInt(4)]}${hex(3)}-${hex(12)}`;
}
