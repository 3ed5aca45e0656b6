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
  'a-shape': { options: { sinks: 5, window: 30 }, dense: {} },
  'tri-shape': { options: { sinks: 5, window: 30, lastRows: 9 }, dense: { lastRows: 4096 } },
  'triangle-mix': { options: { startLayer: 0, sinks: 5, window: 30, lastRows: 9 }, dense: { startLayer: 1 } },
  'moa-window': { options: { beta: 0.3, block: 16 }, dense: { beta: 1 } },
  'anchor-attention': { options: { theta: -2, block: 16, step: 2 }, dense: { theta: 1e9, block: 16, step: 2 } },
  sale: {
    options: { threshold: 2, blockQ: 16, blockK: 8, sinks: 4, localWindow: 20, denseBelow: 0 },
    dense: { threshold: 0 },
  },
  hip: { options: { maskK: 32, blockQ: 16, window: 20, sink: 0 }, dense: { maskK: 4096 } },
  'dual-chunk': { options: { chunkSize: 64, localSize: 16 }, dense: { chunkSize: 4096 } },
  'dual-chunk-sparse': {
    options: { chunkSize: 64, localSize: 16, vertical: 33, slash: 50, localDiagonals: 48, sparseAbove: 0 },
    dense: { vertical: 4096, slash: 4096, sparseAbove: 0 },
  },
  quest: {
    options: { pageSize: 4, tokenBudget: 32, denseLayers: 0 },
    dense: { pageSize: 1, tokenBudget: 4096, denseLayers: 0 },
  },
  'double-sparsity': {
    options: { heavy: 20, recent: 4, denseLayers: 0 },
    dense: { heavy: 4096, share: 1, denseLayers: 0 },
  },
  'tidal-decode': {
    options: { topK: 24, select: '0', denseSelect: false },
    dense: { topK: 4096, select: '0', denseSelect: false },
  },
  'token-select': { options: { topK: 20, sinks: 3, local: 9 }, dense: { topK: 4096 } },
  lserve: {
    options: { page: 16, sub: 4, tokenBudget: 64, groupReduce: 'none' },
    dense: { page: 1, sub: 1, tokenBudget: 4096 },
  },
  'retrieval-attention': { options: { sinks: 3, recent: 9, topK: 20 }, dense: { topK: 4096 } },
  'inf-llm': { options: { block: 8, sinks: 3, local: 9, topK: 3, repr: 2 }, dense: { topK: 4096 } },
  'skip-softmax': { options: { scale: 8 }, dense: { scale: 0 } },
  'nm-softmax': { options: { recent: 9 }, dense: { n: 4 } },
  dilated: { options: { window: 20, dilation: 3 }, dense: { window: 4096, dilation: 1 } },
  'strided-sparse': { options: { stride: 7, split: 'byHead' }, dense: { stride: 1 } },
  'fixed-sparse': { options: { stride: 16, expressivity: 2 }, dense: { stride: 4096 } },
  'big-bird': { options: { block: 8 }, dense: { global: 512 } },
  longformer: { options: { window: 20, globalTokens: '0 50', dilation: 2 }, dense: { window: 4096 } },
};
