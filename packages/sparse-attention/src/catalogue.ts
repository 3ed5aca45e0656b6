import type { Pattern } from './mask.js';
import { slidingWindow } from './methods/sliding-window.js';
import { streaming, streamingDefaults } from './methods/streaming.js';

/** One published method. Docs, CLI, evaluation and tests enumerate this list; nothing is listed twice by hand. */
export interface AttentionMethod {
  readonly id: string;
  readonly title: string;
  readonly paper: string;
  readonly phase: 'prefill' | 'decode' | 'both';
  readonly training: 'none' | 'calibration' | 'full';
  readonly options: Readonly<Record<string, number>>;
  create(options: Readonly<Record<string, number>>): Pattern;
}

export const attentionMethods: readonly AttentionMethod[] = /* @__PURE__ */ Object.freeze([
  {
    id: 'streaming-llm',
    title: 'Attention sinks and sliding window',
    paper: 'arXiv:2309.17453',
    phase: 'both',
    training: 'none',
    options: streamingDefaults,
    create: streaming,
  },
  {
    id: 'sliding-window',
    title: 'Sliding window',
    paper: 'arXiv:2004.05150',
    phase: 'both',
    training: 'none',
    options: { window: 512 },
    create: ({ window = 512 }) => slidingWindow({ window }),
  },
]);
