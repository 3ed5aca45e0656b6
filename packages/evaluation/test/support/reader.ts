import type { AttentionOptions } from '@filigree/transformer';
import type { Forced, Subject, TokenIds } from '../../src/index.js';
import { letterTokenizer } from './letters.js';

/** What a reader was asked to do. */
export interface ReaderCalls {
  prefills: number;
  questions: number;
}

/** Characters that a method's window leaves of a context, from its end; all without one. */
function windowOf({ prefill }: AttentionOptions): number {
  const options = prefill && 'method' in prefill ? prefill.options : undefined;
  return typeof options?.['window'] === 'number' ? options['window'] : Infinity;
}

/**
 * Reads as a person would: looks in what it can see for the beginning of the answer and goes on with what follows there. With a window it sees
 * the end of a context only, so that scores fall as they must.
 */
export function reader({ context = 100_000, addBos = false } = {}): Subject & { readonly calls: ReaderCalls } {
  const tokenizer = letterTokenizer({ addBos });
  const calls = { prefills: 0, questions: 0 };
  return {
    tokenizer,
    context,
    calls,
    prefill(tokens, { attention }) {
      calls.prefills++;
      const window = windowOf(attention);
      const seen = tokenizer.decode(tokens).slice(window === Infinity ? 0 : -window);
      const follow = (prompt: TokenIds, length: number): string => {
        calls.questions++;
        const asked = tokenizer.decode(prompt);
        // The longest end of the prompt that the text has.
        for (let from = 0; from < asked.length; from++) {
          const at = seen.indexOf(asked.slice(from));
          if (at >= 0) return seen.slice(at + asked.length - from, at + asked.length - from + length);
        }
        return '';
      };
      return Promise.resolve({
        seconds: Math.min(window, tokens.length) / 1e4,
        kvBytes: 0,
        density: Math.min(1, window / tokens.length),
        ask: (prompt: TokenIds) =>
          Promise.resolve({
            force: (answer: TokenIds): Promise<Forced> => {
              const found = follow(prompt, answer.length);
              const top = answer.map((token, index) => token === found.charCodeAt(index));
              return Promise.resolve({ top, logProbs: top.map((hit) => (hit ? -0.1 : -5)) });
            },
            dispose: () => undefined,
          }),
        generate: (prompt: TokenIds, { limit }: { limit: number }) =>
          Promise.resolve({ text: follow(prompt, limit), decodeTokens: limit - 1, decodeSeconds: (limit - 1) / 100 }),
        dispose: () => undefined,
      });
    },
  };
}
