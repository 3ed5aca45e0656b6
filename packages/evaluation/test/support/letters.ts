import type { Tokenizer } from '@filigree/transformer';

/** A tokenizer of single characters: what a text has can be counted by eye. Id 0 begins texts where `addBos`. */
export function letterTokenizer({ addBos = false } = {}): Tokenizer {
  const decode = (tokens: ArrayLike<number>): string =>
    Array.from(tokens, (token) => (token === 0 ? '' : String.fromCharCode(token))).join('');
  return {
    vocabularySize: 128,
    bos: 0,
    eos: undefined,
    endOfGeneration: new Set(),
    addBos,
    specialTokens: new Map([['<s>', 0]]),
    byteLength: 0,
    encode: (text, { addBos: first = addBos } = {}) => [
      ...(first ? [0] : []),
      ...Array.from(text, (letter) => Math.min(letter.charCodeAt(0), 127)),
    ],
    decode,
    stream: () => ({ push: (token) => decode([token]), end: () => '' }),
  };
}
