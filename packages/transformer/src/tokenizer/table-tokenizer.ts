import { TokenizerError } from './errors.js';
import type { PieceEncoder } from './piece-encoder.js';
import { SpecialTokens } from './special-tokens.js';
import type { DecodeOptions, EncodeOptions, Tokenizer, TokenStream } from './tokenizer.js';
import { utf8Decoder } from './utf8.js';
import { tokenType, type Vocabulary } from './vocabulary.js';

/** What a {@link TableTokenizer} is made of. */
export interface TableTokenizerParts {
  readonly vocabulary: Vocabulary;
  /** Encodes the text between tokens that are parsed. */
  readonly encoder: PieceEncoder;
  /** Parsed only where asked for. */
  readonly specialTokens: ReadonlyMap<string, number>;
  /** Parsed in every text. */
  readonly userTokens: ReadonlyMap<string, number>;
  readonly bos: number | undefined;
  readonly eos: number | undefined;
  readonly endOfGeneration: ReadonlySet<number>;
  readonly addBos: boolean;
  /** Whole texts begin with a space that encoding put there, which decoding takes away. */
  readonly dropsFirstSpace: boolean;
}

/** A tokenizer on a {@link Vocabulary}. */
export class TableTokenizer implements Tokenizer {
  readonly vocabularySize: number;
  readonly bos: number | undefined;
  readonly eos: number | undefined;
  readonly endOfGeneration: ReadonlySet<number>;
  readonly addBos: boolean;
  readonly specialTokens: ReadonlyMap<string, number>;
  readonly #vocabulary: Vocabulary;
  readonly #encoder: PieceEncoder;
  readonly #parsedAlways: SpecialTokens;
  readonly #parsedSpecial: SpecialTokens;
  readonly #dropsFirstSpace: boolean;

  constructor(parts: TableTokenizerParts) {
    this.vocabularySize = parts.vocabulary.size;
    this.bos = parts.bos;
    this.eos = parts.eos;
    this.endOfGeneration = parts.endOfGeneration;
    this.addBos = parts.addBos;
    this.specialTokens = parts.specialTokens;
    this.#vocabulary = parts.vocabulary;
    this.#encoder = parts.encoder;
    this.#parsedAlways = new SpecialTokens(parts.userTokens);
    this.#parsedSpecial = new SpecialTokens([...parts.userTokens, ...parts.specialTokens]);
    this.#dropsFirstSpace = parts.dropsFirstSpace;
  }

  get byteLength(): number {
    return this.#encoder.byteLength + this.#parsedAlways.byteLength + this.#parsedSpecial.byteLength;
  }

  encode(text: string, { special = false, addBos = this.addBos }: EncodeOptions = {}): number[] {
    const tokens: number[] = [];
    if (addBos && this.bos !== undefined) tokens.push(this.bos);
    const parsed = special ? this.#parsedSpecial : this.#parsedAlways;
    parsed.split(wellFormed(text), (whole, start, end, token) => {
      if (token >= 0) tokens.push(token);
      else this.#encoder.encode(whole.slice(start, end), tokens, start === 0);
    });
    return tokens;
  }

  decode(tokens: ArrayLike<number>, { special = false }: DecodeOptions = {}): string {
    let length = 0;
    for (let index = 0; index < tokens.length; index++) length += this.#textBytes(tokens[index], special).length;
    const bytes = new Uint8Array(length);
    let at = 0;
    for (let index = 0; index < tokens.length; index++) {
      const text = this.#textBytes(tokens[index], special);
      bytes.set(text, at);
      at += text.length;
    }
    const drop = this.#dropsFirstSpace && bytes[0] === 0x20;
    return utf8Decoder().decode(drop ? bytes.subarray(1) : bytes);
  }

  stream(): TokenStream {
    const decoder = utf8Decoder();
    return {
      push: (token) => decoder.decode(this.#textBytes(token, false), { stream: true }),
      end: () => decoder.decode(),
    };
  }

  /** The bytes that a token shows. */
  #textBytes(token: number | undefined, special: boolean): Uint8Array {
    if (token === undefined || !Number.isInteger(token) || token < 0 || token >= this.vocabularySize)
      throw new TokenizerError(`decode: expected token ids of 0 to ${this.vocabularySize - 1}, got ${token}`);
    const type = this.#vocabulary.types[token];
    const hidden = !special && (type === tokenType.control || type === tokenType.unknown);
    return hidden ? nothing : this.#vocabulary.bytes(token);
  }
}

const nothing = /* @__PURE__ */ new Uint8Array(0);

/** Lone surrogates have no UTF-8 form. */
function wellFormed(text: string): string {
  return text.replaceAll(/\p{Surrogate}/gu, '\ufffd');
}
