import {
  fromArray,
  gatherRows,
  OptionError,
  permute,
  reshape,
  scope,
  slice,
  throwIfAborted,
  type Tensor,
} from '@filigree/core-tensor';
import type { Compressor, KvCache, StreamCache } from '@filigree/kv-cache';
import type { Decoder } from '../model/decoder.js';
import type { LayerQueries } from './newest-queries.js';
import { compressEntries, entriesKept, newest } from './compressed-prefill.js';

export interface CompressCache {
  readonly decoder: Decoder;
  /** All entries of the sequence; stays as it is. */
  readonly from: KvCache;
  /** Empty; gets what is kept. */
  readonly into: StreamCache;
  readonly compressor: Compressor;
  readonly queries: LayerQueries;
  readonly signal: AbortSignal | undefined;
}

/**
 * Cuts down a sequence that was read without a compressor: what is kept goes into a cache of its own, layer after layer.
 * @throws OptionError when the compressor asks for the queries of the whole prompt, which nobody kept.
 */
export async function compressCache({ decoder, from, into, compressor, queries, signal }: CompressCache): Promise<void> {
  const { config } = decoder;
  const length = from.length();
  for (let layer = 0; layer < config.layers; layer++) {
    throwIfAborted(signal);
    const kept = entriesKept(config, compressor, length, layer);
    const entries = scope(() => contiguous(from, layer));
    const q = queries.of(layer);
    try {
      const whole = config.windows[layer] > 0 || kept >= length;
      const chosen = whole
        ? { kept: newest(config.kvHeads, length, kept) }
        : await compressEntries(decoder, compressor, { layer, q, ...entries });
      into.fill(layer, entries, chosen.kept, chosen);
    } finally {
      for (const tensor of [q, entries.k, entries.v]) tensor.dispose();
    }
  }
}

/** @throws OptionError when the compressor asks for queries of the whole prompt. */
export function newestQueries({ id, queries }: Compressor, caller: string): number {
  if (queries === 'all')
    throw new OptionError(`${caller}: kv: ${id} asks for the queries of the whole prompt; give it to Model.prefill`);
  return queries;
}

/** Entries of a layer as [Hk, S, D]. */
function contiguous(cache: KvCache, layer: number): { k: Tensor; v: Tensor } {
  const { pool, pages, backend } = cache;
  const length = cache.length(layer);
  const ids = fromArray(backend, [...pages], [pages.length], 'i32');
  const rows = (tensor: Tensor): Tensor => {
    const [, heads, size, dim] = tensor.shape;
    const whole = reshape(permute(gatherRows(tensor, ids), [1, 0, 2, 3]), [heads, pages.length * size, dim]);
    return slice(whole, [0, 0, 0], [heads, length, dim]);
  };
  return { k: rows(pool.keys[layer]), v: rows(pool.values[layer]) };
}
