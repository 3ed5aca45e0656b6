import { OptionError, type Random } from '@filigree/core-tensor';
import type { PromptText, PromptTokens } from '../prompt-format.js';
import type { SampleOptions } from '../task.js';
import { essaySentence } from './essay.js';
import { noise } from './noise.js';

/** Sentence `index` of filler; asked for in order. */
export type Filler = (index: number) => string;

/** The one paragraph over and over. */
export const noiseFiller: Filler = (index) => noise[index % noise.length];

/** Sentences of the essay grammar, remembered, so that a longer haystack begins like a shorter one. */
export function essayFiller(random: Random): Filler {
  return rememberedFiller(() => essaySentence(random));
}

export function rememberedFiller(next: () => string): Filler {
  const made: string[] = [];
  return (index) => {
    while (made.length <= index) made.push(next());
    return made[index];
  };
}

/** A sentence that is hidden, and where: 0 is before the first sentence of filler, 1 behind the last. */
export interface Needle {
  readonly text: string;
  readonly depth: number;
}

/**
 * One needle in each of `count` equal parts of the text, anywhere in it, in random order: every depth is as likely, and every sample has them
 * all.
 */
export function spreadDepths(random: Random, count: number): number[] {
  return shuffled(
    random,
    Array.from({ length: count }, (_, part) => (part + random.nextFloat()) / count),
  );
}

/** Fisher and Yates. */
export function shuffled<T>(random: Random, items: readonly T[]): T[] {
  const all = [...items];
  for (let index = all.length - 1; index > 0; index--) {
    const other = random.nextInt(index + 1);
    [all[index], all[other]] = [all[other], all[index]];
  }
  return all;
}

/** `count` different items of a list. @throws OptionError when there are too few. */
export function drawn<T>(random: Random, items: readonly T[], count: number): T[] {
  if (count > items.length) throw new OptionError(`evaluation: ${count} different items of ${items.length} cannot be drawn`);
  return shuffled(random, items).slice(0, count);
}

/** The text of `units` sentences of filler with the needles between them, and where each needle [start, end) is in it. */
export function haystack(
  filler: Filler,
  units: number,
  needles: readonly Needle[],
): { readonly text: string; readonly places: readonly (readonly [start: number, end: number])[] } {
  const slotOf = ({ depth }: Needle): number =>
    // At least one sentence from the ends, unless it is to be there.
    depth <= 0 ? 0 : depth >= 1 ? units : Math.min(Math.max(Math.round(depth * units), 1), Math.max(units - 1, 0));
  const order = [...needles.keys()].sort((a, b) => needles[a].depth - needles[b].depth);
  const places: [number, number][] = needles.map(() => [0, 0]);
  let text = '';
  let next = 0;
  const append = (sentence: string): void => {
    if (text !== '') text += ' ';
    text += sentence;
  };
  for (let unit = 0; unit <= units; unit++) {
    for (; next < order.length && slotOf(needles[order[next]]) === unit; next++) {
      const { text: sentence } = needles[order[next]];
      append(sentence);
      places[order[next]] = [text.length - sentence.length, text.length];
    }
    if (unit < units) append(filler(unit));
  }
  return { text, places };
}

/** A haystack of a length in tokens. */
export interface FittedHaystack extends PromptTokens {
  /** Positions [start, end) of every needle in the context's tokens. */
  readonly spans: readonly (readonly [start: number, end: number])[];
}

/**
 * Takes the most filler with which context, longest question and `answerTokens` have at most `tokens` tokens.
 * @throws OptionError when that is less than nine tenths of them, which few tokens make unavoidable.
 */
export function fitHaystack(
  { tokens, format, tokenizer }: Pick<SampleOptions, 'tokens' | 'format' | 'tokenizer'>,
  { instruction, filler, needles, questions, answerTokens }: HaystackText,
): FittedHaystack {
  const made = (units: number): { prompt: PromptText; prefix: string; places: readonly (readonly [number, number])[] } => {
    const { text, places } = haystack(filler, units, needles);
    const prefix = `${instruction}\n\n`;
    return { prompt: { context: prefix + text, questions }, prefix: prefix + text, places };
  };
  const units = mostUnits(tokens, (count) => lengthOf(format.encode(made(count).prompt)) + answerTokens);
  const { prompt, prefix, places } = made(units);
  const encoded = format.encode(prompt);
  // Tokens before the text of the context itself: `bos`, the template's first ones.
  const textTokens = tokenizer.encode(prefix, { addBos: false }).length;
  const before = Math.max(0, encoded.context.length - textTokens);
  const at = (character: number): number =>
    Math.min(encoded.context.length, before + tokenizer.encode(prefix.slice(0, character), { addBos: false }).length);
  const offset = instruction.length + 2;
  return { ...encoded, spans: places.map(([start, end]) => [at(offset + start), at(offset + end)]) };
}

export interface HaystackText {
  readonly instruction: string;
  readonly filler: Filler;
  readonly needles: readonly Needle[];
  readonly questions: PromptText['questions'];
  readonly answerTokens: number;
}

/** Tokens of the context and the longest prompt. */
export function lengthOf({ context, prompts }: PromptTokens): number {
  return context.length + Math.max(0, ...prompts.map(({ length }) => length));
}

/** The most units of which `lengthOf` says at most `tokens`. @throws OptionError when it says less than nine tenths. */
export function mostUnits(tokens: number, lengthOfUnits: (units: number) => number): number {
  let [low, high] = [0, 1];
  while (lengthOfUnits(high) <= tokens) [low, high] = [high, 2 * high];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (lengthOfUnits(middle) <= tokens) low = middle;
    else high = middle;
  }
  const reached = lengthOfUnits(low);
  if (reached > tokens || reached < 0.9 * tokens)
    throw new OptionError(
      `evaluation: ${tokens} tokens are too few for this task, whose closest sample has ${reached}; ask for longer contexts`,
    );
  return low;
}
