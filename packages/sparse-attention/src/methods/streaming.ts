import { cellPattern } from '../cell-pattern.js';
import type { Pattern } from '../mask.js';
import { checkIntegers, defineMethod } from '../method.js';

export interface StreamingOptions {
  /** First tokens that everyone sees. */
  readonly sinks?: number;
  /** Newest tokens, the query included. */
  readonly window?: number;
  /** Queries at the end of the prompt that see everything (tri-shape). */
  readonly lastRows?: number;
}

/** Defaults of {@link streaming}: those of the reference implementation. */
export const streamingDefaults = { sinks: 4, window: 512, lastRows: 0 } as const;

/**
 * StreamingLLM: attention sinks and a sliding window. Softmax must put its mass somewhere, and models put it on the first tokens; keeping
 * those few with the recent ones keeps the output distribution in shape at a cost linear in length. What lies between sinks and window is
 * not seen, whatever it says.
 *
 * With `lastRows` the last queries of a prompt see everything (tri-shape), which finds needles outside of the window. A decoded token is not one of
 * them.
 * Xiao et al., "Efficient Streaming Language Models with Attention Sinks", arXiv:2309.17453.
 *
 * @throws OptionError when an option is not a non-negative integer, or window is 0.
 */
export function streaming(options: StreamingOptions = {}): Pattern {
  const { sinks, window, lastRows } = { ...streamingDefaults, ...options };
  checkIntegers('streaming', { sinks, lastRows });
  checkIntegers('streaming', { window }, 1);
  return (shape) =>
    cellPattern(shape, ({ position, lenK, promptEnd }) => {
      if (position >= promptEnd - lastRows) return [[0, lenK]];
      return [
        [0, sinks],
        [position + 1 - window, position + 1],
      ];
    });
}

/** {@link streaming} in the catalogue. */
export const streamingLlm = /* @__PURE__ */ defineMethod({
  id: 'streaming-llm',
  title: 'Attention sinks and sliding window',
  paper: 'arXiv:2309.17453',
  phase: 'both',
  training: 'none',
  emits: 'ranges',
  options: streamingDefaults,
  policy: (options) => ({ kind: 'pattern', pattern: streaming(options) }),
});

/** {@link streaming} as MInference's A-shape heads have it: more sinks and a longer window. Jiang et al., arXiv:2407.02490. */
export const aShape = /* @__PURE__ */ defineMethod({
  id: 'a-shape',
  title: 'A-shape',
  paper: 'arXiv:2407.02490',
  phase: 'prefill',
  training: 'none',
  emits: 'ranges',
  options: { sinks: 128, window: 3968 },
  policy: (options) => ({ kind: 'pattern', pattern: streaming(options) }),
});

/** A-shape whose last queries see everything. Li et al., "SCBench", arXiv:2412.10319. */
export const triShape = /* @__PURE__ */ defineMethod({
  id: 'tri-shape',
  title: 'Tri-shape',
  paper: 'arXiv:2412.10319',
  phase: 'prefill',
  training: 'none',
  emits: 'ranges',
  options: { sinks: 128, window: 1920, lastRows: 100 },
  policy: (options) => ({ kind: 'pattern', pattern: streaming(options) }),
});
