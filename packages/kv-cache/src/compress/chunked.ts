import { OptionError } from '@filigree/core-tensor';
import { checkIntegers } from '@filigree/sparse-attention';
import { compressor, type Compressor, type Kept, type ScoredCompressor } from './compressor.js';
import { withSubContext } from './sub-context.js';

/**
 * Each chunk of `length` entries by itself, with its share of the budget and its own queries: what is protected at the ends of a prompt is protected at the
 * ends of every chunk.
 *
 * As `ChunkPress` of kvpress (Jegou and Jeblick, NVIDIA).
 *
 * @throws OptionError when length is no positive integer.
 */
export function perChunk({ parts }: ScoredCompressor, { length: size }: { readonly length: number }): Compressor {
  checkIntegers(parts.id, { length: size }, 1);
  const { id, queries, queryAgnostic, budget } = parts;
  return {
    id,
    queries: queries === 0 ? 0 : 'all',
    queryAgnostic,
    budget,
    async compress(context) {
      const { length, layer, layers, kvHeads } = context;
      const entries = Math.min(length, budget(length, layer, layers));
      // Rounding the sums keeps the total.
      const upTo = (end: number): number => Math.floor((entries * end) / length + 1e-9);
      const lists = Array.from({ length: kvHeads }, (): number[] => []);
      for (let start = 0; start < length; start += size) {
        const end = Math.min(length, start + size);
        const share = upTo(end) - upTo(start);
        if (share === 0) continue;
        const inner = compressor({ ...parts, budget: () => share });
        const asked = inner.queries === 'all' ? end - start : Math.min(end - start, inner.queries);
        const ids = Array.from({ length: end - start }, (_, index) => start + index);
        const part = { entries: lists.map(() => ids), queries: { start: end - asked, end } };
        const kept = await withSubContext(context, part, (own) => inner.compress(own));
        for (const [head, own] of kept.entries()) for (const index of own) lists[head].push(start + index);
      }
      return lists.map((ids) => Uint32Array.from(ids));
    },
  };
}

/**
 * Block after block, as if the prompt came in pieces: what is kept so far and the next `block` entries are cut to the budget. Decisions look at the queries of
 * the block. KeyDiff (arXiv:2504.15364) is defined so.
 *
 * @throws OptionError when block is no positive integer, or heads come to keep different numbers.
 */
export function blockwise(inner: ScoredCompressor, { block }: { readonly block: number }): Compressor {
  const { id, queries, queryAgnostic, budget } = inner;
  checkIntegers(id, { block }, 1);
  return {
    id,
    queries: queries === 0 ? 0 : 'all',
    queryAgnostic,
    budget,
    async compress(context) {
      const { length, layer, layers, kvHeads } = context;
      const entries = Math.min(length, budget(length, layer, layers));
      const fixed = compressor({ ...inner.parts, budget: () => entries });
      let kept: Kept = Array.from({ length: kvHeads }, () => new Uint32Array(0));
      for (let start = 0; start < length; start += block) {
        const end = Math.min(length, start + block);
        const next = Array.from({ length: end - start }, (_, index) => start + index);
        const all = kept.map((ids) => [...ids, ...next]);
        if (all.some((ids) => ids.length !== all[0].length))
          throw new OptionError(`${id}: blockwise takes methods whose heads keep the same number of entries`);
        const asked = queries === 'all' ? end - start : Math.min(end - start, queries);
        const part = { entries: all, queries: { start: end - asked, end } };
        const chosen = await withSubContext(context, part, (own) => fixed.compress(own));
        kept = chosen.map((ids, head) => ids.map((index) => all[head][index]));
      }
      return kept;
    },
  };
}
