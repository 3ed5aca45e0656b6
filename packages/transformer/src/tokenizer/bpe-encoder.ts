import { MergeLoop, type MergeTable } from './merge-loop.js';
import { PieceCache } from './piece-cache.js';
import type { PieceEncoder } from './piece-encoder.js';
import { tokenType, type Vocabulary } from './vocabulary.js';

export interface BpeParts {
  readonly vocabulary: Vocabulary;
  readonly merges: MergeTable;
  /** Cuts a text into the pieces within which symbols merge. */
  readonly cut: (text: string, onPiece: (piece: string) => void, first: boolean) => void;
  /** Writes a piece as the bytes that the vocabulary has, at most three for a UTF-16 unit, and returns their count. */
  readonly write: (piece: string, out: Uint8Array) => number;
  /** What merges to begin with: bytes, or UTF-8 characters, of which those without a token become bytes in the end. */
  readonly symbols: 'bytes' | 'characters';
  /** A piece that is a token as a whole is that token, whatever the merges say. */
  readonly wholePieces?: boolean | undefined;
  /** Token of what has none; without it, such symbols are left out. */
  readonly unknown?: number | undefined;
  /** Whether a run of unknown symbols is one unknown token. */
  readonly fusesUnknown?: boolean | undefined;
}

/** Byte-pair encoding: in each piece of a text neighbouring symbols merge to tokens, in the order of the merges. */
export class BpeEncoder implements PieceEncoder {
  readonly #parts: BpeParts;
  /** Token of each byte, -1 where there is none. */
  readonly #byteTokens: Int32Array;
  readonly #loop = new MergeLoop();
  readonly #cache = new PieceCache();
  #bytes = new Uint8Array(256);

  constructor(parts: BpeParts) {
    this.#parts = parts;
    this.#byteTokens = byteTokens(parts);
  }

  encode(text: string, out: number[], first: boolean): void {
    const onPiece = (piece: string): void => {
      const known = this.#cache.get(piece);
      if (known) {
        for (const token of known) out.push(token);
        return;
      }
      const start = out.length;
      this.#encodePiece(piece, out);
      this.#cache.set(piece, out, start);
    };
    this.#parts.cut(text, onPiece, first);
  }

  get byteLength(): number {
    return this.#parts.vocabulary.byteLength + this.#parts.merges.byteLength + this.#cache.byteLength;
  }

  #encodePiece(piece: string, out: number[]): void {
    const { vocabulary, merges, write, wholePieces = false } = this.#parts;
    if (3 * piece.length > this.#bytes.length) this.#bytes = new Uint8Array(3 * piece.length);
    const bytes = this.#bytes;
    const length = write(piece, bytes);
    const whole = wholePieces ? vocabulary.find(bytes, 0, length) : -1;
    if (whole >= 0) {
      out.push(whole);
      return;
    }
    const count = this.#beginSymbols(length);
    const start = out.length;
    this.#loop.run(merges, bytes, count, length, (token, from, to) => {
      if (token >= 0) out.push(token);
      else this.#spell(from, to, out, start);
    });
    if (bytes.length > keptBytes) this.#bytes = new Uint8Array(256);
  }

  /** Fills the symbols of the merge loop with `length` bytes; returns their count. */
  #beginSymbols(length: number): number {
    const { vocabulary, symbols } = this.#parts;
    const loop = this.#loop;
    const bytes = this.#bytes;
    loop.reserve(length);
    if (symbols === 'bytes') {
      for (let index = 0; index < length; index++) loop.starts[index] = index;
      for (let index = 0; index < length; index++) loop.ids[index] = this.#byteTokens[bytes[index]];
      return length;
    }
    let count = 0;
    for (let start = 0; start < length; count++) {
      const next = start + characterBytes(bytes[start]);
      loop.starts[count] = start;
      loop.ids[count] = vocabulary.find(bytes, start, next);
      start = next;
    }
    return count;
  }

  /** Appends the tokens of a symbol that has none of its own: its bytes, else the unknown token. `start` is where the piece began. */
  #spell(from: number, to: number, out: number[], start: number): void {
    const { unknown, fusesUnknown = false, symbols } = this.#parts;
    const begin = out.length;
    for (let index = from; index < to && symbols === 'characters'; index++) {
      const token = this.#byteTokens[this.#bytes[index]];
      if (token < 0) break;
      out.push(token);
    }
    if (out.length - begin === to - from) return;
    out.length = begin;
    const fused = fusesUnknown && begin > start && out[begin - 1] === unknown;
    if (unknown !== undefined && !fused) out.push(unknown);
  }
}

/** A working copy of a piece of more bytes than these is not kept for the next one. */
const keptBytes = 1 << 18;

/** Length of a UTF-8 character by its first byte. */
function characterBytes(first: number): number {
  if (first < 0x80) return 1;
  if (first < 0xe0) return 2;
  return first < 0xf0 ? 3 : 4;
}

function byteTokens({ vocabulary, symbols }: BpeParts): Int32Array {
  if (symbols === 'bytes') return Int32Array.from({ length: 256 }, (_, byte) => vocabulary.find(Uint8Array.of(byte), 0, 1));
  const tokens = new Int32Array(256).fill(-1);
  for (let id = 0; id < vocabulary.size; id++)
    if (vocabulary.types[id] === tokenType.byte) tokens[vocabulary.bytes(id)[0]] = id;
  return tokens;
}
