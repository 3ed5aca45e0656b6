import { TokenizerError } from './errors.js';
import { MergeLoop } from './merge-loop.js';
import type { MergeScores } from './merge-scores.js';
import { PieceCache } from './piece-cache.js';
import type { PieceEncoder } from './piece-encoder.js';
import { writeUtf8 } from './utf8.js';
import { metaspace, tokenType, type Vocabulary } from './vocabulary.js';

const space = 0x20;

export interface SentencePieceOptions {
  /** Text begins with a space that is not there. */
  readonly addSpacePrefix: boolean;
  /** Token of what has none, bytes included; -1 for none. */
  readonly unknown: number;
}

/** SentencePiece's byte-pair encoding: characters merge to tokens, highest score first; characters without a token become bytes. */
export class SentencePieceBpe implements PieceEncoder {
  readonly #vocabulary: Vocabulary;
  readonly #merges: MergeScores;
  readonly #addSpacePrefix: boolean;
  /** Token of every byte, -1 where there is none. */
  readonly #byteTokens: Int32Array;
  /** Whether spaces only begin tokens, so that merges never cross the place before a space. */
  readonly #cutsAtSpaces: boolean;
  readonly #loop = new MergeLoop();
  readonly #cache = new PieceCache();
  #bytes = new Uint8Array(256);

  constructor(vocabulary: Vocabulary, merges: MergeScores, { addSpacePrefix, unknown }: SentencePieceOptions) {
    this.#vocabulary = vocabulary;
    this.#merges = merges;
    this.#addSpacePrefix = addSpacePrefix;
    this.#byteTokens = byteTokens(vocabulary, unknown);
    this.#cutsAtSpaces = spacesBeginTokens(vocabulary);
  }

  encode(text: string, out: number[]): void {
    // The character that stands for the space is the same as a space, so that text has one form of it only.
    const plain = (this.#addSpacePrefix ? ' ' : '') + text.replaceAll(metaspace, ' ');
    let start = 0;
    while (start < plain.length) {
      const end = this.#cutsAtSpaces ? wordEnd(plain, start) : plain.length;
      this.#encodeWord(plain.slice(start, end), out);
      start = end;
    }
  }

  get byteLength(): number {
    return this.#vocabulary.byteLength + this.#merges.byteLength + this.#cache.byteLength;
  }

  #encodeWord(word: string, out: number[]): void {
    const known = this.#cache.get(word);
    if (known) {
      for (const token of known) out.push(token);
      return;
    }
    const first = out.length;
    this.#merge(word, out);
    this.#cache.set(word, out, first);
  }

  #merge(word: string, out: number[]): void {
    if (3 * word.length > this.#bytes.length) this.#bytes = new Uint8Array(3 * word.length);
    const bytes = this.#bytes;
    const end = writeUtf8(word, bytes, 0);
    const loop = this.#loop;
    loop.reserve(word.length);
    let count = 0;
    for (let start = 0; start < end; count++) {
      const next = start + characterBytes(bytes[start] ?? 0);
      loop.starts[count] = start;
      loop.ids[count] = this.#vocabulary.find(bytes, start, next);
      start = next;
    }
    loop.run(this.#merges, bytes, count, end, (token, from, to) => {
      if (token >= 0) out.push(token);
      else for (let index = from; index < to; index++) out.push(this.#byteToken(bytes[index] ?? 0, word));
    });
  }

  #byteToken(byte: number, word: string): number {
    const token = this.#byteTokens[byte] ?? -1;
    if (token >= 0) return token;
    const hex = byte.toString(16).toUpperCase().padStart(2, '0');
    throw new TokenizerError(
      `tokenizer.ggml.tokens has neither <0x${hex}> nor an unknown token for the text ${JSON.stringify(word.slice(0, 40))}`,
    );
  }
}

/** The end of a run of spaces and of what follows until the next space. */
function wordEnd(text: string, start: number): number {
  let end = start;
  while (text.charCodeAt(end) === space) end++;
  const next = text.indexOf(' ', end);
  return next < 0 ? text.length : next;
}

/** Length of a UTF-8 character by its first byte. */
function characterBytes(first: number): number {
  if (first < 0x80) return 1;
  if (first < 0xe0) return 2;
  return first < 0xf0 ? 3 : 4;
}

function byteTokens(vocabulary: Vocabulary, unknown: number): Int32Array {
  const tokens = new Int32Array(256).fill(unknown);
  for (let id = 0; id < vocabulary.size; id++)
    if (vocabulary.types[id] === tokenType.byte) tokens[vocabulary.bytes(id)[0] ?? 0] = id;
  return tokens;
}

function spacesBeginTokens(vocabulary: Vocabulary): boolean {
  for (let id = 0; id < vocabulary.size; id++) {
    const type = vocabulary.types[id];
    if (type !== tokenType.normal && type !== tokenType.unused) continue;
    const bytes = vocabulary.bytes(id);
    let index = 0;
    while (bytes[index] === space) index++;
    if (bytes.includes(space, index)) return false;
  }
  return true;
}
