import type { Tensor } from '@filigree/core-tensor';
import { codedAttentionOp } from '../ops/coded-attention.js';
import { rotate, rotateBack, type CodedKvCodec } from './coded-codec.js';

/** Coded keys and values as {@link codedAttention} reads them. */
export interface CodedKvView {
  /** u8 [pages, Hk, bytes]. */
  readonly k: Tensor;
  readonly v: Tensor;
  /** i32 [B, pages of an element]. */
  readonly table: Tensor;
  /** i32 [B]: entries, whole pages of them. */
  readonly lengths: Tensor;
  readonly codec: { readonly k: CodedKvCodec; readonly v: CodedKvCodec };
  readonly pageSize: number;
  /** Channels of a value. */
  readonly vDim: number;
}

export interface CodedAttentionOptions {
  /** Default 1/√D. */
  readonly scale?: number | undefined;
  readonly softcap?: number | undefined;
}

/**
 * Attention of q [B, Lq, Hq, D] over whole coded pages; see {@link codedAttentionOp}. What lies behind them as raw rows is attended to with `attention`,
 * and the two are merged with `mergeAttention`, both in layout `blhd`.
 */
export function codedAttention(
  q: Tensor,
  { k, v, table, lengths, codec, pageSize, vDim }: CodedKvView,
  { scale = 1 / Math.sqrt(q.shape[3]), softcap }: CodedAttentionOptions = {},
): { o: Tensor; lse: Tensor } {
  const rotated = codec.k.rotation === undefined ? q : rotate(q, codec.k.rotation);
  const { o, lse } = codedAttentionOp(
    { q: rotated, kPages: k, vPages: v, table, lengths },
    { scale, softcap, kFormat: codec.k.format, vFormat: codec.v.format, pageSize, valueDim: vDim },
  );
  return { o: codec.v.rotation === undefined ? o : rotateBack(o, codec.v.rotation), lse };
}
