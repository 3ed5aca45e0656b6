import { OptionError } from '@filigree/core-tensor';
import { containedShare } from '../score.js';
import type { Task } from '../task.js';
import { spreadDepths } from '../text/haystack.js';
import { sampleRandom } from './retrieval.js';

/** Tokens that are asked for at a time, behind those that are given. */
const asked = 32;
const shown = 24;

/**
 * Random hexadecimal numbers, of which passages are begun again: what followed them is to be continued. No language is needed, only heads that
 * look for what was seen before, and entries all over the cache are measured. Random tokens of all kinds, of which this is made elsewhere, small
 * models copy badly.
 *
 * The idea of RazorAttention's test of heads, Tang et al., arXiv:2407.15891.
 */
export const copy: Task = /* @__PURE__ */ Object.freeze<Task>({
  id: 'copy',
  title: 'Copying passages of random numbers',
  reading: 'tokens',
  phase: 'decode',
  // What a model guesses of hexadecimal digits without the context.
  chance: 0.15,
  limit: asked,
  sample(options) {
    const { tokens, tokenizer, queries } = options;
    const random = sampleRandom(options);
    const first = tokenizer.addBos && tokenizer.bos !== undefined ? [tokenizer.bos] : [];
    const length = tokens - shown - asked - first.length;
    if (length < shown + asked)
      throw new OptionError(`copy: ${tokens} tokens are too few; it takes ${2 * (shown + asked) + 1}`);
    const context = [
      ...first,
      ...randomNumbers(
        length,
        (text) => tokenizer.encode(text, { addBos: false }),
        () => random.nextWord(),
      ),
    ];
    return {
      context,
      queries: spreadDepths(random, queries).map((depth) => {
        const start = first.length + Math.round(depth * (length - shown - asked));
        const from = start + shown;
        const answer = context.slice(from, from + asked);
        const spans = [[start, from + asked]] as const;
        return { prompt: context.slice(start, from), answer, references: [tokenizer.decode(answer)], spans };
      }),
    };
  },
  score: ({ references }, text) => containedShare(references, text),
});

/** `length` tokens of numbers of eight hexadecimal digits, separated by spaces. */
function randomNumbers(length: number, encode: (text: string) => number[], next: () => number): number[] {
  let text = '';
  for (;;) {
    for (let count = 0; count < length; count += 8) text += ` ${next().toString(16).padStart(8, '0')}`;
    const tokens = encode(text);
    if (tokens.length >= length) return tokens.slice(0, length);
  }
}
