import { permute, reshape, scope, ShapeError, type Tensor } from '@filigree/core-tensor';
import { attention, type AttentionOptions } from './ops/attention.js';

/**
 * Attention of every query to the keys at distances 0, s, 2s, …: tokens are dealt out to s sequences of every s-th one, each of which attends to itself, densely. No
 * mask and no gathering; `window` counts keys of a sequence. The same as the pattern `dilated` with dilation s.
 *
 * q [B,Hq,L,D], k [B,Hk,L,D], v [B,Hk,L,Dv] f32 → o [B,Hq,L,Dv], lse [B,Hq,L]. L must be a multiple of s.
 *
 * Child et al., "Generating Long Sequences with Sparse Transformers", arXiv:1904.10509.
 *
 * @throws ShapeError when L is no multiple of s, or q, k and v differ in length.
 */
export function residueSplit(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  s: number,
  options: Pick<AttentionOptions, 'scale' | 'softcap' | 'window' | 'precision'> = {},
): { o: Tensor; lse: Tensor } {
  const [batch, heads, length] = q.shape;
  if (!Number.isInteger(s) || s < 1 || length % s !== 0)
    throw new ShapeError(`residueSplit: ${length} tokens are not dealt out to ${s} sequences evenly`);
  for (const [name, x] of Object.entries({ k, v }))
    if (x.shape[2] !== length) throw new ShapeError(`residueSplit: ${name} has ${x.shape[2]} tokens, q has ${length}`);
  return scope(() => {
    const { o, lse } = attention(dealt(q, s), dealt(k, s), dealt(v, s), options);
    const back = permute(reshape(o, [batch, s, heads, length / s, o.shape[3]]), [0, 2, 3, 1, 4]);
    const backLse = permute(reshape(lse, [batch, s, heads, length / s]), [0, 2, 3, 1]);
    return { o: reshape(back, [batch, heads, length, o.shape[3]]), lse: reshape(backLse, [batch, heads, length]) };
  });
}

/** [B, H, L, D] → [B · s, H, L / s, D]. */
function dealt(x: Tensor, s: number): Tensor {
  const [batch, heads, length, dim] = x.shape;
  const parts = permute(reshape(x, [batch, heads, length / s, s, dim]), [0, 3, 1, 2, 4]);
  return reshape(parts, [batch * s, heads, length / s, dim]);
}
