import { unary } from '@filigree/core-tensor';
import { uniform } from '../budgets.js';
import { compressor, type ScoredCompressor } from '../compressor.js';
import { defineKvMethod } from '../kv-method.js';
import { asFloat, rowNorms } from '../norms.js';

export interface KnormOptions {
  /** Entries per head that are kept: a number, or a share of the prompt below 1. */
  readonly budget: number;
  readonly sinks: number;
  readonly recent: number;
}

/**
 * Knorm: keys of small length stay; in models as they are trained, long keys receive little attention.
 *
 * Reads every key once. Devoto et al., "A Simple and Effective L2 Norm-Based Strategy for KV Cache Compression", arXiv:2406.11430.
 *
 * @throws OptionError when an option is out of its range.
 */
export function knorm({ budget, sinks, recent }: KnormOptions): ScoredCompressor {
  return compressor({
    id: 'knorm',
    queries: 0,
    queryAgnostic: true,
    decodes: true,
    score: ({ k }) => unary(rowNorms(asFloat(k)), 'neg'),
    budget: uniform('knorm', budget),
    protect: { sinks, recent },
  });
}

/** {@link knorm} in the catalogue. */
export const knormMethod = /* @__PURE__ */ defineKvMethod({
  id: 'knorm',
  title: 'Knorm: short keys',
  paper: 'arXiv:2406.11430',
  phase: 'prefill',
  training: 'none',
  queryAgnostic: true,
  ragged: false,
  options: { budget: 2048, sinks: 4, recent: 32 },
  compressor: knorm,
});
