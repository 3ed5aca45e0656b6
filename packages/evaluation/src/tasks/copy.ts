import { OptionError } from '@filigree/core-tensor';
import type { Tokenizer } from '@filigree/transformer';
import { containedShare } from '../score.js';
import type { Task } from '../task.js';
import { spreadDepths } from '../text/haystack.js';
import { sampleRandom } from './retrieval.js';

/** Tokens that are asked for at a time, behind {@link shown} that are given. */
const asked = 32;
const shown = 8;

/**
 * Random tokens, of which passages are begun again: what followed them is to be continued. No language is needed, only heads that look for what
 * was seen before, and it measures entries all over the cache.
 *
 * The idea of RazorAttention's test of heads, Tang et al., arXiv:2407.15891.
 */
export const copy: Task = /* @__PURE__ */ Object.freeze<Task>({
  id: 'copy',
  title: 'Copying passages of random tokens',
  reading: 'tokens',
  phase: 'decode',
  chance: 0,
  limit: asked,
  sample(options) {
    const { tokens, tokenizer, queries } = options;
    const random = sampleRandom(options);
    const ids = printableTokens(tokenizer);
    const first = tokenizer.addBos && tokenizer.bos !== undefined ? [tokenizer.bos] : [];
    const length = tokens - shown - asked - first.length;
    if (length < shown + asked) throw new OptionError(`evaluation: ${tokens} tokens are too few for the copy probe`);
    const passage = Array.from({ length }, () => ids[random.nextInt(ids.length)]);
    const context = [...first, ...passage];
    return {
      context,
      queries: spreadDepths(random, queries).map((depth) => {
        const start = first.length + Math.round(depth * (length - shown - asked));
        const from = start + shown;
        return {
          prompt: context.slice(start, from),
          answer: context.slice(from, from + asked),
          references: [tokenizer.decode(context.slice(from, from + asked))],
          spans: [[start, from + asked]] as const,
        };
      }),
    };
  },
  score: ({ references }, text) => containedShare(references, text),
});

const printable = /* @__PURE__ */ new WeakMap<Tokenizer, readonly number[]>();

/** Tokens that stand for visible characters of ASCII, and not for control. */
function printableTokens(tokenizer: Tokenizer): readonly number[] {
  const known = printable.get(tokenizer);
  if (known) return known;
  const special = new Set(tokenizer.specialTokens.values());
  const found: number[] = [];
  for (let id = 0; id < tokenizer.vocabularySize; id++) {
    if (!special.has(id) && /^ ?[!-~]+$/.test(tokenizer.decode([id]))) found.push(id);
  }
  printable.set(tokenizer, found);
  return found;
}
