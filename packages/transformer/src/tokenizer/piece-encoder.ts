/** Turns plain text, in which no token is parsed, into tokens. */
export interface PieceEncoder {
  /** Appends the tokens of a text to `out`. */
  encode(text: string, out: number[]): void;
  readonly byteLength: number;
}
