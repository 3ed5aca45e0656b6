import type { MethodOptions } from '@filigree/sparse-attention';

/** Options with which the tests of all methods run one of them. */
export interface MethodCase {
  /** Those that leave something out of some hundred tokens. */
  readonly options: MethodOptions;
  /** Those that leave nothing out: the result is that of dense attention. */
  readonly dense: MethodOptions;
}

/** Every method of the catalogue; a method that is not here fails its tests. */
export const methodCases: Readonly<Record<string, MethodCase>> = {
  'streaming-llm': { options: { sinks: 3, window: 40 }, dense: { window: 4096 } },
  'sliding-window': { options: { window: 50 }, dense: { window: 4096 } },
  minference: {
    options: { vertical: 33, slash: 50, localDiagonals: 48 },
    dense: { vertical: 4096, slash: 4096 },
  },
  'block-top-k': { options: { block: 16, topK: 3 }, dense: { topK: 4096 } },
  'flex-prefill': { options: { block: 16, minBudget: 32, gamma: 0.7, denseBelow: 0 }, dense: { gamma: 1, denseBelow: 0 } },
  'x-attention': { options: { stride: 4, block: 16, threshold: 0.7 }, dense: { threshold: 1 } },
  sparge: {
    options: { blockQ: 32, blockK: 16, cdf: 0.6, simThreshold: -0.1, denseBelow: 0 },
    dense: { cdf: 1, denseBelow: 0 },
  },
};
