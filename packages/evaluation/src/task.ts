import type { Tokenizer } from '@filigree/transformer';
import type { PromptFormat } from './prompt-format.js';

/** Version of all generators: another one gives other samples for the same seed, so that results are not mixed. */
export const generatorVersion = 1;

export type TokenIds = readonly number[];

/** A question about a context, asked on a fork of its prefill. */
export interface Query {
  /** What follows the context: the question, and the beginning of the answer. Empty where the answer continues the context. */
  readonly prompt: TokenIds;
  /** The right answer, teacher-forced after `prompt`. */
  readonly answer: TokenIds;
  /** Texts that a generated answer is searched for. */
  readonly references: readonly string[];
  /** For questions without an order: right and wrong answers of equal number, to be ranked by likelihood. */
  readonly ranking?: { readonly right: readonly TokenIds[]; readonly wrong: readonly TokenIds[] } | undefined;
  /** Positions [start, end) of the evidence in the context. */
  readonly spans: readonly (readonly [start: number, end: number])[];
}

export interface Sample {
  readonly context: TokenIds;
  readonly queries: readonly Query[];
}

/** How answers are read and what the score is made of. */
export type Reading =
  /** 1 when every token of the teacher-forced answer is the most likely one. */
  | 'forced'
  /** Share of the teacher-forced answer's tokens that are the most likely ones. */
  | 'tokens'
  /** What {@link Task.score} gives a greedily generated answer. */
  | 'generated'
  /** Share of right answers among the likeliest half of `ranking`. */
  | 'ranked'
  /** Bits per token of the text: less is better, and there is no chance level. */
  | 'bits';

export interface SampleOptions {
  readonly seed: number;
  /** Most tokens of context, question and answer together; a sample has at least 0.9 of them. */
  readonly tokens: number;
  readonly tokenizer: Tokenizer;
  readonly format: PromptFormat;
  /** Which sample of the seed. */
  readonly index: number;
  /** Questions per context. */
  readonly queries: number;
}

export interface Task {
  readonly id: string;
  readonly title: string;
  readonly reading: Reading;
  /** Whether a forced answer is read as a part of the prompt, or token by token as when generating. */
  readonly phase: 'prefill' | 'decode';
  /** Score of who knows nothing. */
  readonly chance: number;
  /** Most tokens of a generated answer. */
  readonly limit: number;
  /** The same options give the same sample. @throws OptionError when `tokens` is too few. */
  sample(options: SampleOptions): Sample;
  /** 0 … 1 for a generated answer; an empty one scores 0. */
  score(query: Query, text: string): number;
}

/** Dense scores below this make a cell uninformative: half-way between chance and 1, at least 0.5. */
export function informativeFrom({ reading, chance }: Pick<Task, 'reading' | 'chance'>): number {
  return reading === 'bits' ? 0 : Math.max(0.5, (1 + chance) / 2);
}
