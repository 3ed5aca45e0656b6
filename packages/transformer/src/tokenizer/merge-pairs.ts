import { TokenizerError } from './errors.js';
import type { MergeTable } from './merge-loop.js';
import { tableSize, writeText, type TextForm, type Vocabulary } from './vocabulary.js';

/** A merge as a vocabulary's files write it: `left right`, or both apart. */
export type Merge = string | readonly [string, string];

/** Merges in the order in which they were learnt. */
export class MergePairs implements MergeTable {
  merged = -1;
  /** Open addressing over (left, right, merged, rank + 1); rank + 1 is 0 where free. */
  readonly #entries: Int32Array;
  readonly #mask: number;

  /** @param key names the merges in messages */
  constructor(merges: readonly Merge[], vocabulary: Vocabulary, form: TextForm, key: string) {
    const slots = tableSize(merges.length);
    this.#mask = slots - 1;
    this.#entries = new Int32Array(4 * slots);
    let bytes = new Uint8Array(256);
    for (const [rank, merge] of merges.entries()) {
      const fail = (message: string): TokenizerError =>
        new TokenizerError(`${key}[${rank}]: ${JSON.stringify(merge)}: ${message}`);
      const [leftText, rightText] = typeof merge === 'string' ? halves(merge) : merge;
      const room = 3 * (leftText.length + rightText.length);
      if (room > bytes.length) bytes = new Uint8Array(2 * room);
      const left = writeText(leftText, form, bytes, 0);
      const right = left > 0 ? writeText(rightText, form, bytes, left) : -1;
      if (right <= 0) throw fail('expected two texts of tokens with one space between');
      const ids = [
        vocabulary.find(bytes, 0, left),
        vocabulary.find(bytes, left, left + right),
        vocabulary.find(bytes, 0, left + right),
      ] as const;
      const missing = ids.indexOf(-1);
      if (missing >= 0) throw fail(`the ${['left part', 'right part', 'result'][missing]} is no token of the vocabulary`);
      this.#insert(ids, rank);
    }
  }

  rank(_text: Uint8Array, _start: number, _middle: number, _end: number, left: number, right: number): number {
    const entries = this.#entries;
    for (let slot = this.#slot(left, right); ; slot = (slot + 1) & this.#mask) {
      const rank = entries[4 * slot + 3] - 1;
      if (rank < 0) return -1;
      if (entries[4 * slot] === left && entries[4 * slot + 1] === right) {
        this.merged = entries[4 * slot + 2];
        return rank;
      }
    }
  }

  get byteLength(): number {
    return this.#entries.byteLength;
  }

  /** Of equal merges the first counts. */
  #insert([left, right, merged]: readonly [number, number, number], rank: number): void {
    for (let slot = this.#slot(left, right); ; slot = (slot + 1) & this.#mask) {
      const at = 4 * slot;
      if (this.#entries[at + 3] === 0) {
        this.#entries.set([left, right, merged, rank + 1], at);
        return;
      }
      if (this.#entries[at] === left && this.#entries[at + 1] === right) return;
    }
  }

  #slot(left: number, right: number): number {
    const value = Math.imul(Math.imul(left, 0x9e3779b1) ^ right, 0x85ebca6b);
    return (value ^ (value >>> 15)) & this.#mask;
  }
}

/** Parts of a merge with a space between; the right one is empty where there is none. */
function halves(merge: string): readonly [string, string] {
  const space = merge.indexOf(' ', 1);
  return space < 0 ? [merge, ''] : [merge.slice(0, space), merge.slice(space + 1)];
}
