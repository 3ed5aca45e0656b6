import { OptionError } from '@filigree/core-tensor';
import { defineMethod, type AttentionMethod } from './method.js';
import { anchorAttentionMethod } from './methods/anchor-attention.js';
import { bigBirdMethod } from './methods/big-bird.js';
import { blockTopKMethod } from './methods/block-top-k.js';
import { dilatedMethod } from './methods/dilated.js';
import { doubleSparsityMethod } from './methods/double-sparsity.js';
import { dualChunkMethod } from './methods/dual-chunk.js';
import { dualChunkSparseMethod } from './methods/dual-chunk-sparse.js';
import { fixedSparseMethod } from './methods/fixed-sparse.js';
import { flexPrefillMethod } from './methods/flex-prefill.js';
import { hipMethod } from './methods/hip.js';
import { infLlmMethod } from './methods/inf-llm.js';
import { longformerMethod } from './methods/longformer.js';
import { lserveMethod } from './methods/lserve.js';
import { minference } from './methods/minference.js';
import { moaWindowMethod } from './methods/moa-window.js';
import { nmSoftmax } from './methods/nm-softmax.js';
import { questMethod } from './methods/quest.js';
import { retrievalAttentionMethod } from './methods/retrieval-attention.js';
import { saleMethod } from './methods/sale.js';
import { skipSoftmaxMethod } from './methods/skip-softmax.js';
import { slidingWindowMethod } from './methods/sliding-window.js';
import { spargeMethod } from './methods/sparge.js';
import { aShape, streamingLlm, triShape } from './methods/streaming.js';
import { stridedSparseMethod } from './methods/strided-sparse.js';
import { tidalDecodeMethod } from './methods/tidal-decode.js';
import { tokenSelectMethod } from './methods/token-select.js';
import { triangleMixMethod } from './methods/triangle-mix.js';
import { xAttentionMethod } from './methods/x-attention.js';

/** Every published method. */
export const attentionMethods: readonly AttentionMethod[] = /* @__PURE__ */ Object.freeze([
  streamingLlm,
  aShape,
  triShape,
  triangleMixMethod,
  slidingWindowMethod,
  moaWindowMethod,
  minference,
  blockTopKMethod,
  flexPrefillMethod,
  xAttentionMethod,
  spargeMethod,
  anchorAttentionMethod,
  saleMethod,
  hipMethod,
  dualChunkMethod,
  dualChunkSparseMethod,
  questMethod,
  doubleSparsityMethod,
  tidalDecodeMethod,
  tokenSelectMethod,
  lserveMethod,
  retrievalAttentionMethod,
  infLlmMethod,
  skipSoftmaxMethod,
  nmSoftmax,
  dilatedMethod,
  stridedSparseMethod,
  fixedSparseMethod,
  bigBirdMethod,
  longformerMethod,
]);

/** All keys: what a layer or head without a method does. Not in the list, as it is what methods are compared with. */
export const denseAttention: AttentionMethod = /* @__PURE__ */ defineMethod({
  id: 'dense',
  title: 'Dense attention',
  paper: 'arXiv:2307.08691',
  phase: 'both',
  training: 'none',
  options: {},
  policy: () => ({ kind: 'executor', options: () => ({}) }),
});

/** @throws OptionError when there is no such method. */
export function attentionMethod(id: string): AttentionMethod {
  const method = id === denseAttention.id ? denseAttention : attentionMethods.find((candidate) => candidate.id === id);
  if (method) return method;
  const known = [denseAttention, ...attentionMethods].map((candidate) => candidate.id).join(', ');
  throw new OptionError(`there is no method "${id}"; there are ${known}`);
}
