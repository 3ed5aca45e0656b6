import { checkIntegers } from '@filigree/sparse-attention';
import { chunks } from '../allocate.js';
import { compressor, type ScoredCompressor } from '../compressor.js';
import { defineKvMethod } from '../kv-method.js';
import { snapKv, votesWith, type SnapKvOptions } from './snap-kv.js';

export interface ChunkKvOptions extends SnapKvOptions {
  /** Entries of a chunk. */
  readonly length: number;
}

/** The scores of a compressor, summed over heads and averaged over chunks of `length` entries, which are kept whole and by all heads of a layer. */
export function chunkUnits({ parts }: ScoredCompressor, { length }: { readonly length: number }): ScoredCompressor {
  checkIntegers(parts.id, { length }, 1);
  return compressor({ ...parts, allocation: chunks(length) });
}

/**
 * ChunkKV: neighbouring entries stay or go together, by the votes of SnapKV.
 * Liu et al., "ChunkKV: Semantic-Preserving KV Cache Compression for Efficient Long-Context LLM Inference", arXiv:2502.00299.
 *
 * @throws OptionError when an option is out of its range.
 */
export function chunkKv({ length, ...options }: ChunkKvOptions): ScoredCompressor {
  const { parts } = snapKv(options);
  return chunkUnits(compressor({ ...parts, id: 'chunk-kv' }), { length });
}

/** {@link chunkKv} in the catalogue. */
export const chunkKvMethod = /* @__PURE__ */ defineKvMethod({
  id: 'chunk-kv',
  title: 'ChunkKV: neighbouring entries together',
  paper: 'arXiv:2502.00299',
  phase: 'prefill',
  training: 'none',
  queryAgnostic: false,
  ragged: false,
  // Votes are averaged over a chunk as it is.
  options: /* @__PURE__ */ votesWith({ kernel: 1, length: 20 }),
  compressor: chunkKv,
});
