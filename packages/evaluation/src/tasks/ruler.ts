import { OptionError } from '@filigree/core-tensor';
import { containedShare } from '../score.js';
import type { Sample, SampleOptions, Task } from '../task.js';
import { drawn, essayFiller, noiseFiller, rememberedFiller, type Filler } from '../text/haystack.js';
import { drawKeys, type KeyKind } from '../text/keys.js';
import { retrievalSample, sampleRandom, type Fact, type Question } from './retrieval.js';

/** One of the retrieval tasks of RULER by what it is made of. */
interface Variant {
  readonly id: string;
  readonly haystack: 'noise' | 'essay' | 'needles';
  readonly key: KeyKind;
  readonly value: Exclude<KeyKind, 'words'>;
  /** Values of a key: more than one, and a question asks for all of them. */
  readonly values: number;
  /** Keys that a question asks for. */
  readonly asked: number;
  /** Other keys in the context for each question. */
  readonly others: number;
}

const variants: readonly Variant[] = [
  { id: 'single-1', haystack: 'noise', key: 'words', value: 'numbers', values: 1, asked: 1, others: 0 },
  { id: 'single-2', haystack: 'essay', key: 'words', value: 'numbers', values: 1, asked: 1, others: 0 },
  { id: 'single-3', haystack: 'essay', key: 'words', value: 'uuids', values: 1, asked: 1, others: 0 },
  { id: 'multikey-1', haystack: 'essay', key: 'words', value: 'numbers', values: 1, asked: 1, others: 3 },
  { id: 'multikey-2', haystack: 'needles', key: 'words', value: 'numbers', values: 1, asked: 1, others: 0 },
  { id: 'multikey-3', haystack: 'needles', key: 'uuids', value: 'uuids', values: 1, asked: 1, others: 0 },
  { id: 'multivalue', haystack: 'essay', key: 'words', value: 'numbers', values: 4, asked: 1, others: 0 },
  { id: 'multiquery', haystack: 'essay', key: 'words', value: 'numbers', values: 1, asked: 4, others: 0 },
];

/**
 * The retrieval tasks of RULER in words of our own: needles "the special magic number for KEY is VALUE" in noise, in an essay, or among needles of
 * the same form. Keys are drawn without replacement, and positions anew for every sample.
 *
 * Here a context has the needles of all its questions, so that those of one question are distractors of the others: also the single variants
 * have as many keys as questions, and scores are not those of the paper.
 *
 * Hsieh et al., "RULER: What's the Real Context Size of Your Long-Context Language Models?", arXiv:2404.06654.
 */
export const rulerTasks: readonly Task[] = /* @__PURE__ */ Object.freeze(/* @__PURE__ */ variants.map(rulerTask));

function rulerTask(variant: Variant): Task {
  const { id, haystack, values, asked } = variant;
  const several = values * asked > 1;
  return {
    id: `ruler-${id}`,
    title: `RULER ${id}, in ${haystack === 'needles' ? 'needles' : haystack === 'essay' ? 'an essay' : 'noise'}`,
    reading: several ? 'generated' : 'forced',
    phase: 'decode',
    chance: 0,
    limit: variant.value === 'uuids' ? 64 : 16 * values * asked + 16,
    sample: (options) => rulerSample(options, variant),
    score: ({ references }, text) => containedShare(references, text),
  };
}

function rulerSample(options: SampleOptions, variant: Variant): Sample {
  const { key, value, values, asked, others } = variant;
  const random = sampleRandom(options);
  const keyCount = Math.max(options.queries * (1 + others), asked);
  const keys = drawKeys(random, key, keyCount);
  const numbers = drawKeys(random, value, keyCount * values);
  const valuesOf = (index: number): string[] => numbers.slice(index * values, (index + 1) * values);
  const kind = value === 'uuids' ? 'uuid' : 'number';
  const facts = keys.map((name, index): Fact => ({
    sentences: valuesOf(index).map((one) => `The special magic ${kind} for ${name} is ${one}.`),
  }));
  const questions = Array.from({ length: options.queries }, (_, index): Question => {
    // The first keys are asked for; where several go into a question, those and others.
    const own = asked === 1 ? [index] : drawn(random, [...keys.keys()], asked);
    const references = own.flatMap(valuesOf);
    const [names, plural] = [joined(own.map((at) => keys[at])), references.length > 1];
    return {
      question: plural
        ? `What are all the special magic ${kind}s for ${names}?`
        : `What is the special magic ${kind} for ${names}?`,
      lead: plural ? `The special magic ${kind}s for ${names} are` : `The special magic ${kind} for ${names} is`,
      answer: joined(references),
      references,
      facts: own,
    };
  });
  return retrievalSample(options, {
    instruction: `Some special magic ${kind}s are hidden in the text below. Remember them, you will be asked about some of them.`,
    filler: fillerOf(options, variant, new Set(keys)),
    facts,
    questions,
  });
}

function fillerOf(options: SampleOptions, { haystack, key, value }: Variant, taken: ReadonlySet<string>): Filler {
  const random = sampleRandom(options, 1);
  switch (haystack) {
    case 'noise':
      return noiseFiller;
    case 'essay':
      return essayFiller(random);
    case 'needles': {
      const used = new Set(taken);
      return rememberedFiller(() => {
        for (let tries = 0; tries < 1000; tries++) {
          const [name] = drawKeys(random, key, 1);
          if (used.has(name)) continue;
          used.add(name);
          return `The special magic ${value === 'uuids' ? 'uuid' : 'number'} for ${name} is ${drawKeys(random, value, 1)[0]}.`;
        }
        throw new OptionError('evaluation: there are no more keys for distractors; ask for shorter contexts');
      });
    }
  }
}

/** `a`, `a and b`, `a, b, and c`. */
function joined(parts: readonly string[]): string {
  if (parts.length < 3) return parts.join(' and ');
  return `${parts.slice(0, -1).join(', ')}, and ${parts[parts.length - 1]}`;
}
