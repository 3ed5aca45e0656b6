import { MergeLoop } from './merge-loop.js';
import type { MergePairs } from './merge-pairs.js';
import { PieceCache } from './piece-cache.js';
import type { PieceEncoder } from './piece-encoder.js';
import { preTokenize, type PreTokenizer } from './pre-tokenizers.js';
import { writeUtf8 } from './utf8.js';
import type { Vocabulary } from './vocabulary.js';

/** Byte-level byte-pair encoding: text is cut into pieces by patterns, the bytes of a piece merge in the order of the learnt merges. */
export class ByteLevelBpe implements PieceEncoder {
  readonly #vocabulary: Vocabulary;
  readonly #merges: MergePairs;
  readonly #preTokenizer: PreTokenizer;
  /** Token of every byte, -1 where there is none. */
  readonly #byteTokens: Int32Array;
  readonly #loop = new MergeLoop();
  readonly #cache = new PieceCache();
  #bytes = new Uint8Array(256);

  constructor(vocabulary: Vocabulary, merges: MergePairs, preTokenizer: PreTokenizer) {
    this.#vocabulary = vocabulary;
    this.#merges = merges;
    this.#preTokenizer = preTokenizer;
    this.#byteTokens = Int32Array.from({ length: 256 }, (_, byte) => vocabulary.find(Uint8Array.of(byte), 0, 1));
  }

  encode(text: string, out: number[]): void {
    preTokenize(text, this.#preTokenizer.patterns, (piece) => {
      const known = this.#cache.get(piece);
      if (known) {
        for (const token of known) out.push(token);
        return;
      }
      const start = out.length;
      this.#encodePiece(piece, out);
      this.#cache.set(piece, out, start);
    });
  }

  get byteLength(): number {
    return this.#vocabulary.byteLength + this.#merges.byteLength + this.#cache.byteLength;
  }

  #encodePiece(piece: string, out: number[]): void {
    if (3 * piece.length > this.#bytes.length) this.#bytes = new Uint8Array(3 * piece.length);
    const bytes = this.#bytes;
    const count = writeUtf8(piece, bytes, 0);
    const whole = this.#preTokenizer.wholePieces ? this.#vocabulary.find(bytes, 0, count) : -1;
    if (whole >= 0) {
      out.push(whole);
      return;
    }
    const loop = this.#loop;
    loop.reserve(count);
    for (let index = 0; index < count; index++) {
      loop.starts[index] = index;
      loop.ids[index] = this.#byteTokens[bytes[index] ?? 0] ?? -1;
    }
    // A byte without a token is left out: the model has never seen it and cannot be shown it.
    loop.run(this.#merges, bytes, count, count, (token) => {
      if (token >= 0) out.push(token);
    });
  }
}
