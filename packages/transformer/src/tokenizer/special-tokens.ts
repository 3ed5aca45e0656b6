/** Called for each part of a text: a special token, or plain text where `token` is -1. */
export type OnPart = (text: string, start: number, end: number, token: number) => void;

/** Finds the texts of special tokens in a text: leftmost first, of those that start at one place the longest. */
export class SpecialTokens {
  /** Edges of a trie: (node, UTF-16 unit) → node. */
  readonly #edges = new Map<number, number>();
  /** Token that ends at a node, -1 where none does. */
  readonly #tokens: number[] = [-1];

  constructor(tokens: Iterable<readonly [string, number]>) {
    for (const [text, id] of tokens) {
      if (text === '') continue;
      let node = 0;
      for (let index = 0; index < text.length; index++) {
        const edge = edgeKey(node, text.charCodeAt(index));
        let next = this.#edges.get(edge);
        if (next === undefined) {
          next = this.#tokens.push(-1) - 1;
          this.#edges.set(edge, next);
        }
        node = next;
      }
      this.#tokens[node] = id;
    }
  }

  get byteLength(): number {
    // A map of numbers takes about 40 bytes an entry.
    return 48 * this.#tokens.length;
  }

  /** Cuts a text in order into special tokens and non-empty runs of plain text between them. */
  split(text: string, onPart: OnPart): void {
    let plain = 0;
    for (let index = 0; index < text.length;) {
      const { end, token } = this.longestAt(text, index);
      if (end < 0) {
        index++;
        continue;
      }
      if (index > plain) onPart(text, plain, index, -1);
      onPart(text, index, end, token);
      index = plain = end;
    }
    if (text.length > plain) onPart(text, plain, text.length, -1);
  }

  /** The longest special token that starts at `start`; `end` is -1 where none does. */
  longestAt(text: string, start: number): { readonly end: number; readonly token: number } {
    let found = none;
    let node = this.#edges.get(text.charCodeAt(start));
    for (let index = start + 1; node !== undefined; index++) {
      const token = this.#tokens[node];
      if (token >= 0) found = { end: index, token };
      if (index >= text.length) break;
      node = this.#edges.get(edgeKey(node, text.charCodeAt(index)));
    }
    return found;
  }
}

const none = { end: -1, token: -1 };

function edgeKey(node: number, unit: number): number {
  return node * 0x10000 + unit;
}
