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
  readonly codec?: KvCodec | undefined;
}
