import { GgufFormatError, type GgufFile } from '@filigree/checkpoint';
import { TokenizerError } from './errors.js';
import { tokenType } from './vocabulary.js';

/** Keys of the metadata that describe a tokenizer. */
export const keys = {
  model: 'tokenizer.ggml.model',
  pre: 'tokenizer.ggml.pre',
  tokens: 'tokenizer.ggml.tokens',
  types: 'tokenizer.ggml.token_type',
  scores: 'tokenizer.ggml.scores',
  merges: 'tokenizer.ggml.merges',
  bos: 'tokenizer.ggml.bos_token_id',
  eos: 'tokenizer.ggml.eos_token_id',
  eot: 'tokenizer.ggml.eot_token_id',
  eom: 'tokenizer.ggml.eom_token_id',
  unknown: 'tokenizer.ggml.unknown_token_id',
  addBos: 'tokenizer.ggml.add_bos_token',
  addSpacePrefix: 'tokenizer.ggml.add_space_prefix',
} as const;

/** Ids and ranks are packed with others into one number. */
const mostTokens = 1 << 22;

/** Reads the tokenizer's metadata; what is missing or wrong is a {@link TokenizerError} that names the key. */
export class GgufTokenizerMetadata {
  readonly #file: GgufFile;

  constructor(file: GgufFile) {
    this.#file = file;
  }

  string(key: string): string | undefined {
    return this.#read(() => this.#file.string(key));
  }

  boolean(key: string): boolean | undefined {
    return this.#read(() => this.#file.boolean(key));
  }

  tokens(): readonly string[] {
    const tokens = this.#required(keys.tokens, this.#strings(keys.tokens));
    if (tokens.length === 0 || tokens.length > mostTokens)
      throw this.fail(keys.tokens, `expected 1 to ${mostTokens} tokens, the file has ${tokens.length}`);
    return tokens;
  }

  merges(): readonly string[] {
    const merges = this.#required(keys.merges, this.#strings(keys.merges));
    if (merges.length > mostTokens)
      throw this.fail(keys.merges, `expected at most ${mostTokens} merges, the file has ${merges.length}`);
    return merges;
  }

  /** One per token; all normal when the file names none. */
  types(count: number): Uint8Array {
    const values = this.#numbers(keys.types, count);
    if (!values) return new Uint8Array(count).fill(tokenType.normal);
    return Uint8Array.from({ length: count }, (_, id) => {
      const type = values[id];
      if (!(type >= 0 && type <= tokenType.byte))
        throw this.fail(`${keys.types}[${id}]`, `expected a type of 0 to ${tokenType.byte}, the file has ${type}`);
      return type;
    });
  }

  /** One per token, none of them NaN. */
  scores(count: number): ArrayLike<number> {
    const scores = this.#required(keys.scores, this.#numbers(keys.scores, count));
    for (let id = 0; id < count; id++)
      if (Number.isNaN(scores[id])) throw this.fail(`${keys.scores}[${id}]`, 'expected a number, the file has NaN');
    return scores;
  }

  /** A token's id. */
  id(key: string, count: number): number | undefined {
    const id = this.#read(() => this.#file.number(key));
    if (id === undefined) return undefined;
    if (!Number.isInteger(id) || id < 0 || id >= count)
      throw this.fail(key, `expected the id of one of ${count} tokens, the file has ${id}`);
    return id;
  }

  /** A key with its file, for messages. */
  name(key: string): string {
    return `${this.#file.source.name}: ${key}`;
  }

  fail(key: string, message: string): TokenizerError {
    return new TokenizerError(`${this.name(key)}: ${message}`);
  }

  #strings(key: string): readonly string[] | undefined {
    return this.#read(() => this.#file.strings(key));
  }

  #numbers(key: string, count: number): ArrayLike<number> | undefined {
    const values = this.#read(() => this.#file.numbers(key));
    if (values && values.length !== count)
      throw this.fail(key, `expected one value for each of ${count} tokens, the file has ${values.length}`);
    return values;
  }

  #required<T>(key: string, value: T | undefined): T {
    if (value === undefined) throw this.fail(key, 'is missing; the tokenizer cannot be built without it');
    return value;
  }

  #read<T>(read: () => T): T {
    try {
      return read();
    } catch (error) {
      if (error instanceof GgufFormatError) throw new TokenizerError(error.message, { cause: error });
      throw error;
    }
  }
}
