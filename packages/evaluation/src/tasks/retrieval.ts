import { Random } from '@filigree/core-tensor';
import type { PromptText } from '../prompt-format.js';
import type { Query, Sample, SampleOptions } from '../task.js';
import { fitHaystack, spreadDepths, type Filler } from '../text/haystack.js';

/** A fact that is hidden in the text and asked for. */
export interface Fact {
  /** The sentences that state it, each hidden at a depth of its own. */
  readonly sentences: readonly string[];
}

/** A question whose answer facts hold. */
export interface Question {
  readonly question: string;
  /** The beginning of the answer, without a space at its end. */
  readonly lead: string;
  readonly answer: string;
  readonly references: readonly string[];
  /** Which facts hold it. */
  readonly facts: readonly number[];
}

export interface RetrievalText {
  readonly instruction: string;
  readonly filler: Filler;
  readonly facts: readonly Fact[];
  readonly questions: readonly Question[];
}

/** Random numbers of one sample of a task: streams of a seed, independent of each other. */
export function sampleRandom({ seed, index }: Pick<SampleOptions, 'seed' | 'index'>, part = 0): Random {
  return new Random(seed, 16 * index + part);
}

/** A text with facts spread evenly over it, and the questions about them. */
export function retrievalSample(options: SampleOptions, { instruction, filler, facts, questions }: RetrievalText): Sample {
  const sentences = facts.flatMap((fact, index) => fact.sentences.map((text) => ({ text, fact: index })));
  const depths = spreadDepths(sampleRandom(options, 15), sentences.length);
  const needles = sentences.map(({ text }, index) => ({ text, depth: depths[index] }));
  const answers = questions.map(({ lead, answer }) => options.format.answer(lead, answer));
  const asked: PromptText['questions'] = questions;
  const { context, prompts, spans } = fitHaystack(options, {
    instruction,
    filler,
    needles,
    questions: asked,
    answerTokens: Math.max(0, ...answers.map(({ length }) => length)),
  });
  return {
    context,
    queries: questions.map((question, index): Query => {
      const own = new Set(question.facts);
      return {
        prompt: prompts[index],
        answer: answers[index],
        references: question.references,
        spans: spans.filter((_, sentence) => own.has(sentences[sentence].fact)),
      };
    }),
  };
}
