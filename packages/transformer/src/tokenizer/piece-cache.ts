/** Longest piece kept, in UTF-16 units, and how many pieces. */
const longestPiece = 32;
const keptPieces = 16_384;

/** Token ids of pieces of text met before; words of a text repeat. */
export class PieceCache {
  readonly #pieces = new Map<string, readonly number[]>();

  get(piece: string): readonly number[] | undefined {
    return this.#pieces.get(piece);
  }

  set(piece: string, tokens: readonly number[], start: number): void {
    if (piece.length > longestPiece) return;
    if (this.#pieces.size >= keptPieces) this.#pieces.clear();
    this.#pieces.set(piece, tokens.slice(start));
  }

  /** Bytes of a full cache, roughly. */
  get byteLength(): number {
    return keptPieces * 160;
  }
}
