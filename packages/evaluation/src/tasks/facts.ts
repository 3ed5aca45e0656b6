import type { SampleOptions } from '../task.js';
import { drawKeys } from '../text/keys.js';
import { shuffled } from '../text/haystack.js';
import { topics } from '../text/topics.js';
import { sampleRandom, type Fact, type Question } from './retrieval.js';

export const factsInstruction =
  'Some important facts with numbers are hidden in the text below. Remember them, you will be asked about one of them.';

/** Facts of different kinds with one value each, and a question about each. */
export function topicFacts(
  options: SampleOptions,
  values: readonly string[],
  sentence: (statement: string, value: string) => string,
): { facts: Fact[]; questions: Question[] } {
  const random = sampleRandom(options, 2);
  const names = drawKeys(random, 'words', values.length);
  // Which kinds come twice, where there are more facts than kinds, is up to the sample.
  const kinds = shuffled(random, topics);
  const facts: Fact[] = [];
  const questions: Question[] = [];
  for (const [index, value] of values.entries()) {
    const topic = kinds[index % kinds.length];
    const lead = topic.statement(names[index]);
    facts.push({ sentences: [sentence(lead, value)] });
    questions.push({ question: topic.question(names[index]), lead, answer: value, references: [value], facts: [index] });
  }
  return { facts, questions };
}
