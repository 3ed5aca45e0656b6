import { add, fromArray, matmul, mul, permute, reshape, softcap as capped, softmax, type Tensor } from '@filigree/core-tensor';
import { probeSums } from '@filigree/sparse-attention';
import type { CompressContext } from './compressor.js';

/** Attention that entries get from the last `rows` queries there are, summed over these: f32 [Hq, length]. Exact causal softmax. */
export function attentionReceived(context: CompressContext, rows = context.q.shape[1]): Tensor {
  const { backend, q, k, heads, length, scale, softcap } = context;
  const lengths = fromArray(backend, [q.shape[1], length], [1, 2], 'i32');
  const pages = reshape(k, [1, ...k.shape]);
  const { columns } = probeSums(q, pages, { rows, scale, softcap, lengths, queryLayout: 'blhd' });
  return reshape(columns, [heads, length]);
}

/**
 * Probabilities of every query: q f32 [n, Hq, D], keys f32 [Hk, S, D], `mask` f32 [n, S] is added to logits → f32 [Hq, n, S], which all exist at once:
 * 4 · Hq · n · S bytes.
 */
export function probabilities(
  q: Tensor,
  keys: Tensor,
  { mask, scale, softcap }: { readonly mask: Tensor; readonly scale: number; readonly softcap: number },
): Tensor {
  const [count, heads, dim] = q.shape;
  const [kvHeads, seen] = keys.shape;
  const group = heads / kvHeads;
  const apart = permute(reshape(q, [count, kvHeads, group, dim]), [1, 2, 0, 3]);
  const products = matmul(reshape(apart, [kvHeads, group * count, dim]), keys, { transposeB: true });
  const scaled = mul(products, fromArray(q.backend, [scale], [1]));
  const logits = softcap > 0 ? capped(scaled, softcap) : scaled;
  return softmax(add(reshape(logits, [heads, count, seen]), mask));
}
