export interface EncodeOptions {
  /** Parse the texts of control tokens such as `<|im_start|>` as these tokens. Default false: text is only text. */
  special?: boolean | undefined;
  /** Begin with the `bos` token. Default: what the model asks for, {@link Tokenizer.addBos}. */
  addBos?: boolean | undefined;
}

export interface DecodeOptions {
  /** Include the texts of control tokens. Default false. */
  special?: boolean | undefined;
}

/** Text to token ids and back. Stateless but for caches: calls do not influence each other's results. */
export interface Tokenizer {
  /** Ids are 0 to `vocabularySize - 1`. */
  readonly vocabularySize: number;
  /** Beginning of sequence. */
  readonly bos: number | undefined;
  /** End of sequence. */
  readonly eos: number | undefined;
  /** Tokens after which a model has nothing more to say: end of sequence, of turn, of text. */
  readonly endOfGeneration: ReadonlySet<number>;
  /** Whether the model wants `bos` before a text. */
  readonly addBos: boolean;
  /** Texts that are control tokens where `special` is asked for, and nowhere else. */
  readonly specialTokens: ReadonlyMap<string, number>;
  /** Estimate of the memory held, in bytes. */
  readonly byteLength: number;
  /** Token ids of a text. Lone surrogates count as U+FFFD. */
  encode(text: string, options?: EncodeOptions): number[];
  /** The text of tokens; bytes that are no UTF-8 become U+FFFD. */
  decode(tokens: ArrayLike<number>, options?: DecodeOptions): string;
  /** Decodes token by token; control tokens have no text. */
  stream(): TokenStream;
}

/** Text of tokens that arrive one by one. The parts joined are the text of all of them. */
export interface TokenStream {
  /** The characters that are complete with this token; the bytes of an incomplete one wait for the next. */
  push(token: number): string;
  /** What is left: U+FFFD for a character that was never completed, else nothing. */
  end(): string;
}
