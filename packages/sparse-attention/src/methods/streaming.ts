import type { MaskShape, Pattern } from '../mask.js';
import { checkIntegers, defineMethod } from '../method.js';
import { rangePattern } from '../range-pattern.js';

export interface StreamingOptions {
  /** First tokens that everyone sees. */
  readonly sinks?: number;
  /** Newest tokens, the query included. */
  readonly window?: number;
  /** Queries at the end that see everything (tri-shape). */
  readonly lastRows?: number;
}

/** Defaults of {@link streaming}: those of the reference implementation. */
export const streamingDefaults = { sinks: 4, window: 512, lastRows: 0 } as const;

/**
 * StreamingLLM: attention sinks and a sliding window. Softmax must put its mass somewhere, and models put it on the first tokens; keeping
 * those few with the recent ones keeps the output distribution in shape at a cost linear in length.
 *
 * With `lastRows` the last queries see everything (tri-shape), which finds needles outside of the window.
 * Xiao et al., "Efficient Streaming Language Models with Attention Sinks", arXiv:2309.17453.
 *
 * @throws OptionError when an option is not a non-negative integer, or window is 0.
 */
export function streaming(options: StreamingOptions = {}): Pattern {
  const { sinks, window, lastRows } = { ...streamingDefaults, ...options };
  checkIntegers('streaming', { sinks, lastRows });
  checkIntegers('streaming', { window }, 1);
  return (shape: MaskShape) =>
    rangePattern(shape, (position, lenK, lastPosition) => {
      if (position > lastPosition - lastRows) return [[0, lenK]];
      return [
        [0, sinks],
        [position + 1 - window, position + 1],
      ];
    });
}

/** {@link streaming} in the catalogue, at the defaults of its reference implementation. */
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
