import type { KvCodec, Tensor } from '@filigree/core-tensor';

/**
 * Keys and values as executors read them: pages of `pageSize` entries and, per batch element, the table of the pages it uses.
 * Contiguous tensors k [B, Hk, L, D] are one page per batch element without a table.
 */
export interface KvView {
  /** [pages, Hk, pageSize, D] f32 or f16. */
  readonly k: Tensor;
  /** [pages, Hk, pageSize, Dv], dtype of k. */
  readonly v: Tensor;
  /** [B, pages per element] i32; left out when page b belongs to element b. */
  readonly table?: Tensor | undefined;
  /** Entries of each batch element. */
  readonly lengths: readonly number[];
  /** [pages, Hk, pageSize] f32: added to the scores of keys, as the `bias` of attention. */
  readonly bias?: Tensor | undefined;
  readonly codec?: KvCodec | undefined;
}
