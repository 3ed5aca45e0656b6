/** Turns plain text, in which no token is parsed, into tokens. */
export interface PieceEncoder {
  /** Appends the tokens of a text to `out`. `first` says whether a whole text begins here, and not what follows a parsed token. */
  encode(text: string, out: number[], first: boolean): void;
  readonly byteLength: number;
}
