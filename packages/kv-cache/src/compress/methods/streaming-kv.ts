import { fromArray } from '@filigree/core-tensor';
import { checkIntegers } from '@filigree/sparse-attention';
import { uniform } from '../budgets.js';
import { compressor, type ScoredCompressor } from '../compressor.js';
import { defineKvMethod } from '../kv-method.js';

export interface StreamingKvOptions {
  /** Entries per head that are kept: the first `sinks`, and the newest. */
  readonly budget: number;
  readonly sinks: number;
}

/**
 * StreamingLLM as eviction: the first entries, where attention without an aim goes, and the newest ones. Positions stay what they were.
 * Xiao et al., "Efficient Streaming Language Models with Attention Sinks", arXiv:2309.17453.
 *
 * @throws OptionError when an option is out of its range.
 */
export function streamingKv({ budget, sinks }: StreamingKvOptions): ScoredCompressor {
  checkIntegers('streaming-llm', { sinks });
  return compressor({
    id: 'streaming-llm',
    queries: 0,
    queryAgnostic: true,
    decodes: true,
    // The newest ones, by their position.
    score: ({ backend, kvHeads, length }) =>
      fromArray(
        backend,
        Float32Array.from({ length: kvHeads * length }, (_, index) => index % length),
        [kvHeads, length],
      ),
    budget: uniform('streaming-llm', budget),
    protect: { sinks },
  });
}

/** {@link streamingKv} in the catalogue. */
export const streamingKvMethod = /* @__PURE__ */ defineKvMethod({
  id: 'streaming-llm',
  title: 'StreamingLLM: sinks and the newest entries',
  paper: 'arXiv:2309.17453',
  phase: 'prefill',
  training: 'none',
  queryAgnostic: true,
  ragged: false,
  options: { budget: 516, sinks: 4 },
  compressor: streamingKv,
});
