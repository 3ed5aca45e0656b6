import { containedShare } from '../score.js';
import type { Task } from '../task.js';
import { essayFiller } from '../text/haystack.js';
import { drawKeys } from '../text/keys.js';
import { factsInstruction, topicFacts } from './facts.js';
import { retrievalSample, sampleRandom } from './retrieval.js';

/** Numbers of seven digits in an essay, one in every tenth of its depth: a sample fills a column of the grid of depth and length. */
export const needle: Task = /* @__PURE__ */ Object.freeze<Task>({
  id: 'needle',
  title: 'Needles in an essay, depth by length',
  reading: 'forced',
  phase: 'decode',
  chance: 0,
  limit: 24,
  sample(options) {
    const numbers = drawKeys(sampleRandom(options), 'numbers', options.queries);
    return retrievalSample(options, {
      instruction: factsInstruction,
      filler: essayFiller(sampleRandom(options, 1)),
      ...topicFacts(options, numbers, (statement, number) => `${statement} ${number}.`),
    });
  },
  score: ({ references }, text) => containedShare(references, text),
});
