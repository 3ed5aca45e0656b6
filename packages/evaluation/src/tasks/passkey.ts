import { firstInteger } from '../score.js';
import type { Task } from '../task.js';
import { noiseFiller } from '../text/haystack.js';
import { drawFiveDigits } from '../text/keys.js';
import { factsInstruction, topicFacts } from './facts.js';
import { retrievalSample, sampleRandom } from './retrieval.js';

/**
 * Numbers of five digits in repeated noise, each stated twice: the easiest retrieval there is, as the keys of the noise cluster. A method that
 * fails here is broken; one that passes is not yet good.
 *
 * Mohtashami and Jaggi, "Landmark Attention", arXiv:2305.16300, popularised it with one number; here each context has several, asked apart.
 */
export const passkey: Task = /* @__PURE__ */ Object.freeze<Task>({
  id: 'passkey',
  title: 'Pass keys in repeated noise',
  reading: 'forced',
  phase: 'decode',
  chance: 0,
  limit: 16,
  sample(options) {
    const keys = drawFiveDigits(sampleRandom(options), options.queries);
    const sentence = (statement: string, key: string): string => `${statement} ${key}. Remember: ${key}.`;
    return retrievalSample(options, {
      instruction: factsInstruction,
      filler: noiseFiller,
      ...topicFacts(options, keys, sentence),
    });
  },
  score: ({ references }, text) => firstInteger(references[0], text),
});
