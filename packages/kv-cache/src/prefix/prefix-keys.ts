import { OptionError } from '@filigree/core-tensor';

/** Tokens as they are compared. @throws OptionError unless they are 32-bit integers. */
export function tokenKeys(caller: string, tokens: ArrayLike<number>): Int32Array {
  const keys = Int32Array.from(tokens);
  for (let index = 0; index < keys.length; index++) {
    if (keys[index] !== tokens[index])
      throw new OptionError(`${caller}: token ${index} is ${tokens[index]}, it must be a 32-bit integer`);
  }
  return keys;
}

export function sameTokens(a: Int32Array, b: Int32Array): boolean {
  return a.length === b.length && a.every((token, index) => token === b[index]);
}

/** Runs of tokens, the last one first, as one run. */
export function joinBackwards(parts: readonly Int32Array[]): Int32Array {
  const all = new Int32Array(parts.reduce((sum, { length }) => sum + length, 0));
  let end = all.length;
  for (const part of parts) {
    end -= part.length;
    all.set(part, end);
  }
  return all;
}

/** Hash of a page of tokens after a parent's: 53 bits, from two multiplicative hashes of 32. */
export function pageHash(parent: number, tokens: Int32Array): number {
  let low = parent >>> 0;
  let high = Math.floor(parent / 2 ** 32) ^ 0x9e3779b9;
  for (const token of tokens) {
    low = Math.imul(low ^ token, 0x85ebca6b);
    low ^= low >>> 15;
    high = Math.imul(high ^ token, 0xc2b2ae35);
    high ^= high >>> 13;
  }
  low = Math.imul(low ^ (high >>> 16), 0x27d4eb2f);
  high = Math.imul(high ^ (low >>> 15), 0x165667b1);
  return ((high ^ (high >>> 16)) & 0x1fffff) * 2 ** 32 + ((low ^ (low >>> 15)) >>> 0);
}

/** Where the chains of a namespace begin. */
export function rootHash(extras: string): number {
  return pageHash(
    0,
    Int32Array.from(extras, (character) => character.codePointAt(0) ?? 0),
  );
}
