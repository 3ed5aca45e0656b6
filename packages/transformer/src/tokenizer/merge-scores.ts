import type { MergeTable } from './merge-loop.js';
import type { Vocabulary } from './vocabulary.js';

/** Merges of SentencePiece's BPE: any two neighbours that form a token may merge, the token of the highest score first. */
export class MergeScores implements MergeTable {
  merged = -1;
  readonly #vocabulary: Vocabulary;
  /** Place of a token's score among all distinct scores, highest first. */
  readonly #ranks: Int32Array;

  /** @param scores one per token, without NaN */
  constructor(scores: ArrayLike<number>, vocabulary: Vocabulary) {
    this.#vocabulary = vocabulary;
    const sorted = Float32Array.from(scores).sort();
    let distinct = 0;
    for (let index = sorted.length - 1; index >= 0; index--) {
      const score = sorted[index];
      if (distinct === 0 || score !== sorted[sorted.length - distinct]) sorted[sorted.length - ++distinct] = score;
    }
    const ascending = sorted.subarray(sorted.length - distinct);
    this.#ranks = Int32Array.from(scores, (score) => distinct - 1 - indexIn(ascending, Math.fround(score)));
  }

  rank(text: Uint8Array, start: number, _middle: number, end: number): number {
    const id = this.#vocabulary.find(text, start, end);
    if (id < 0) return -1;
    this.merged = id;
    return this.#ranks[id];
  }

  get byteLength(): number {
    return this.#ranks.byteLength;
  }
}

/** The place of a value that an ascending array holds. */
function indexIn(ascending: Float32Array, value: number): number {
  let low = 0;
  let high = ascending.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (ascending[middle] < value) low = middle + 1;
    else high = middle;
  }
  return low;
}
