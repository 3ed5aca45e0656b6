import { TokenizerError } from './errors.js';
import type { MergeTable } from './merge-loop.js';
import { byteLevelBytes } from './byte-level.js';
import { tableSize, type Vocabulary } from './vocabulary.js';

/** Merges of byte-level BPE: pairs of tokens in the order in which they were learnt. */
export class MergePairs implements MergeTable {
  merged = -1;
  /** Open addressing over (left, right, merged, rank + 1); rank + 1 is 0 where free. */
  readonly #entries: Int32Array;
  readonly #mask: number;

  /** @param merges `left right` each, in byte-level characters. `key` names them in messages. */
  constructor(merges: readonly string[], vocabulary: Vocabulary, key: string) {
    const slots = tableSize(merges.length);
    this.#mask = slots - 1;
    this.#entries = new Int32Array(4 * slots);
    let bytes = new Uint8Array(256);
    for (const [rank, merge] of merges.entries()) {
      const space = merge.indexOf(' ');
      if (merge.length > bytes.length) bytes = new Uint8Array(2 * merge.length);
      const left = space > 0 ? byteLevelBytes(merge.slice(0, space), bytes, 0) : -1;
      const right = left > 0 ? byteLevelBytes(merge.slice(space + 1), bytes, left) : -1;
      if (right <= 0)
        throw new TokenizerError(
          `${key}[${rank}]: expected two byte-level texts with a space between, got ${JSON.stringify(merge)}`,
        );
      const ids = [
        vocabulary.find(bytes, 0, left),
        vocabulary.find(bytes, left, left + right),
        vocabulary.find(bytes, 0, left + right),
      ] as const;
      if (ids.includes(-1)) {
        const part = ['left part', 'right part', 'result'][ids.indexOf(-1)] ?? '';
        throw new TokenizerError(`${key}[${rank}]: the ${part} of ${JSON.stringify(merge)} is no token of the vocabulary`);
      }
      this.#insert(ids, rank);
    }
  }

  rank(_text: Uint8Array, _start: number, _middle: number, _end: number, left: number, right: number): number {
    for (let slot = this.#slot(left, right); ; slot = (slot + 1) & this.#mask) {
      const rank = (this.#entries[4 * slot + 3] ?? 0) - 1;
      if (rank < 0) return -1;
      if (this.#entries[4 * slot] === left && this.#entries[4 * slot + 1] === right) {
        this.merged = this.#entries[4 * slot + 2] ?? -1;
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
