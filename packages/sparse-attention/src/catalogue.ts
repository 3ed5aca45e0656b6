import { OptionError } from '@filigree/core-tensor';
import { defineMethod, type AttentionMethod } from './method.js';
import { blockTopKMethod } from './methods/block-top-k.js';
import { flexPrefillMethod } from './methods/flex-prefill.js';
import { minference } from './methods/minference.js';
import { slidingWindowMethod } from './methods/sliding-window.js';
import { spargeMethod } from './methods/sparge.js';
import { streamingLlm } from './methods/streaming.js';
import { xAttentionMethod } from './methods/x-attention.js';

/** Every published method. */
export const attentionMethods: readonly AttentionMethod[] = /* @__PURE__ */ Object.freeze([
  streamingLlm,
  slidingWindowMethod,
  minference,
  blockTopKMethod,
  flexPrefillMethod,
  xAttentionMethod,
  spargeMethod,
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
