import { containedShare } from '../score.js';
import type { Sample, SampleOptions, Task } from '../task.js';
import { lengthOf, mostUnits, shuffled } from '../text/haystack.js';
import { drawCodes, drawKeys } from '../text/keys.js';
import { adjectives, nouns } from '../text/words.js';
import { sampleRandom } from './retrieval.js';

/** Words that are asked for, as many that are not, and the text that they are counted in. */
interface Count {
  readonly right: readonly string[];
  readonly wrong: readonly string[];
  /** The text with so many units. */
  readonly text: (units: number) => string;
  readonly question: string;
  readonly lead: string;
}

const commonCount = 10;
const frequentCount = 3;

/**
 * The most common words of a numbered list: ten of them appear thirty times (six times below 4,096 tokens), the others three times (once).
 * Counting needs the whole context: what is left out of the cache is missed first here.
 *
 * RULER's common words extraction, arXiv:2404.06654.
 */
export const commonWords: Task = /* @__PURE__ */ wordsTask('words-common', 'Most common words of a list', 120, (options) => {
  const random = sampleRandom(options);
  const all = shuffled(random, [...nouns, ...adjectives]);
  const [right, single] = [all.slice(0, commonCount), all.slice(commonCount)];
  const [often, seldom] = options.tokens < 4096 ? [6, 1] : [30, 3];
  // Pairs of words once all are used.
  const others = (units: number): string[] =>
    units <= single.length
      ? single.slice(0, units)
      : [...single, ...drawKeys(sampleRandom(options, 2), 'words', units - single.length)];
  return {
    right,
    wrong: single.slice(0, commonCount),
    text: (units) => {
      const words = [...repeated(right, often), ...repeated(others(units + commonCount), seldom)];
      const list = shuffled(sampleRandom(options, 1), words).map((word, index) => `${index + 1}. ${word}`);
      return `Below is a numbered list of words. Some of them appear more often than the others; remember which.\n\n${list.join(' ')}`;
    },
    question: `Which are the ${commonCount} most common words of the list?`,
    lead: 'The most common words of the list are:',
  };
});

/**
 * The most frequent words of a coded text, whose numbers fall with the square of their rank; the most frequent one is noise, "...".
 *
 * RULER's frequent words extraction, arXiv:2404.06654.
 */
export const frequentWords: Task = /* @__PURE__ */ wordsTask(
  'words-frequent',
  'Most frequent words of a coded text',
  50,
  (options) => {
    const random = sampleRandom(options);
    const codes = drawCodes(random, 6, Math.max(Math.floor(options.tokens / 50), 4 * frequentCount));
    const [right, rest] = [codes.slice(0, frequentCount), codes.slice(frequentCount)];
    return {
      right,
      // Those that appear seldom, and not next to the right ones in rank.
      wrong: rest.slice(2 * frequentCount, 3 * frequentCount),
      text: (units) => {
        // Of the expected numbers of each rank, as many as there is room for; shuffled.
        const words = ['...', ...codes].flatMap((code, rank) =>
          repeated([code], Math.max(1, Math.round(units / (rank + 1) ** 2))),
        );
        const text = shuffled(sampleRandom(options, 1), words).join(' ');
        return `Below is a coded text. Find the words that appear most often, and ignore the dots.\n\n${text}`;
      },
      question: `Which are the ${frequentCount} most frequently appeared words of the coded text?`,
      lead: 'The most frequently appeared words are:',
    };
  },
);

export const wordsTasks: readonly Task[] = /* @__PURE__ */ Object.freeze([commonWords, frequentWords]);

function wordsTask(id: string, title: string, limit: number, count: (options: SampleOptions) => Count): Task {
  return {
    id,
    title,
    reading: 'ranked',
    phase: 'decode',
    chance: 0.5,
    limit,
    sample: (options) => countSample(options, count(options)),
    score: ({ references }, text) => containedShare(references, text),
  };
}

/** One question about the whole context: there are no further ones to ask. */
function countSample({ tokens, format }: SampleOptions, { right, wrong, text, question, lead }: Count): Sample {
  const answers = (words: readonly string[]): (readonly number[])[] => words.map((word) => format.answer(lead, word));
  const answer = format.answer(lead, right.join(', '));
  const encoded = (units: number): ReturnType<typeof format.encode> =>
    format.encode({ context: text(units), questions: [{ question, lead }] });
  const { context, prompts } = encoded(mostUnits(tokens, (units) => lengthOf(encoded(units)) + answer.length));
  return {
    context,
    queries: [
      {
        prompt: prompts[0],
        answer,
        references: right,
        ranking: { right: answers(right), wrong: answers(wrong) },
        spans: [[0, context.length]],
      },
    ],
  };
}

function repeated(words: readonly string[], times: number): string[] {
  return words.flatMap((word) => Array.from({ length: times }, () => word));
}
