import { fromArray, reshape, type Tensor } from '@filigree/core-tensor';
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
