import { caseTensor, defineOp, DTypeError, ExecutionError, OptionError, ShapeError, type Tensor } from '@filigree/core-tensor';
import {
  attentionOutputs,
  attentionTolerance,
  keyCapacity,
  precisions,
  queryLayouts,
  type Precision,
  type QueryLayout,
} from './check.js';
import { pagedCase } from './cases.js';
import { attendRow, geometryOf } from './reference.js';
import { attentionKernel } from './webgpu.js';

/**
 * Exact attention with online softmax: o = softmax(scale · q kᵀ) v over the visible keys, and its log-sum-exp.
 *
 * q [B,Hq,Lq,D] (or [B,Lq,Hq,D] with queryLayout `blhd`) f32   k [pages,Hk,P,D], v [pages,Hk,P,Dv] f32 or f16
 * table i32 [B, pages per element]: without it page b is the whole cache of element b   lengths i32 [B]: keys per element
 * o as q with Dv, f32   lse [B,Hq,Lq] f32, natural logarithm
 *
 * Query head h reads key-value head floor(h / (Hq/Hk)). The last query sits at the last key: query i is at position lenK − Lq + i. Causal:
 * key j visible iff j ≤ position; window W > 0: position − j < W. softcap c > 0: scores become c·tanh(score / c). A query without keys gives
 * o = 0, lse = −∞. 2·cells·(D + Dv) operations; nothing of size Lq × Lk.
 *
 * precision `bf16` rounds q, k and v to bfloat16 (to nearest, ties to even), sums their products in f32 and scales the sums; the weights of the values
 * are rounded too, as 2^(score·log2 e − M) with an integer M, and o and lse come from the sum of the rounded ones. Relative error of o (RMS) on normally
 * distributed q, k and v of 64 channels: 3.3e-3. CPUs with AVX-512 BF16 multiply pairs; other paths and WebGPU round and take no less time.
 *
 * Dao, "FlashAttention-2", arXiv:2307.08691.
 */
export const attentionOp = /* @__PURE__ */ defineOp({
  name: 'sparse-attention/attention',
  inputs: ['q', 'k', 'v', 'table?', 'lengths?'],
  outputs: ['o', 'lse'],
  attributes: {
    scale: { type: 'number' },
    softcap: { type: 'number', default: 0 },
    causal: { type: 'boolean', default: true },
    window: { type: 'number', default: 0 },
    /** Keys of every batch element, where `lengths` is not given; −1: all. */
    lengthK: { type: 'number', default: -1 },
    queryLayout: { type: 'enum', values: queryLayouts, default: 'bhld' },
    precision: { type: 'enum', values: precisions, default: 'f32' },
  },
  dynamic: ['lengthK'],
  infer({ q, k, v, table, lengths }, { lengthK, window, queryLayout }) {
    const outputs = attentionOutputs('attention', { q, k, v, table }, queryLayout);
    if (lengths && (lengths.dtype !== 'i32' || lengths.shape.join() !== String(q.shape[0]))) {
      throw new DTypeError('attention: lengths must be i32 [B]');
    }
    if (lengthK > keyCapacity(k, table))
      throw new ShapeError(`attention: lengthK is ${lengthK}, k holds ${keyCapacity(k, table)} keys`);
    if (!Number.isInteger(window) || window < 0)
      throw new OptionError(`attention: window is ${window}, it must be a non-negative integer`);
    return outputs;
  },
  reference(io, { scale, softcap, causal, window, lengthK, queryLayout, precision }) {
    const geometry = geometryOf(io.q, io.k, io.v, io.table, queryLayout);
    const capacity = keyCapacity(io.k, io.table);
    for (let batch = 0; batch < geometry.batch; batch++) {
      const length = io.lengths?.data[batch] ?? (lengthK < 0 ? capacity : lengthK);
      if (length < 0 || length > capacity)
        throw new ExecutionError(`attention: length ${length} is outside of the ${capacity} keys of k`);
      for (let query = 0; query < geometry.lengthQ; query++) {
        const position = length - geometry.lengthQ + query;
        const keys: number[] = [];
        for (let key = 0; key < length; key++) {
          if ((!causal || key <= position) && (window === 0 || position - key < window)) keys.push(key);
        }
        for (let head = 0; head < geometry.heads; head++)
          attendRow(io, geometry, { batch, head, query }, keys, { scale, softcap, precision });
      }
    }
  },
  native: 'sparse_attention_attention',
  webgpu: attentionKernel,
  tolerance: attentionTolerance,
  cases: (fc) =>
    pagedCase(fc).chain(({ batch, lengthQ, lengthK, inputs, queryLayout, dim }) =>
      fc.record({
        inputs: fc.record({
          ...inputs,
          lengths: fc.option(caseTensor(fc, [batch], { dtype: 'i32', low: 0, high: lengthK }), { nil: undefined }),
        }),
        attributes: fc.record({
          scale: fc.constant(1 / Math.sqrt(dim)),
          softcap: fc.constantFrom(0, 0, 5),
          causal: fc.boolean(),
          window: fc.constantFrom(0, 0, 1, 5, lengthQ + 40),
          lengthK: fc.constant(lengthK),
          queryLayout: fc.constant(queryLayout),
          precision: fc.constantFrom(...precisions),
        }),
      }),
    ),
});

export interface AttentionOptions {
  /** Default 1/√D. */
  readonly scale?: number;
  readonly softcap?: number;
  readonly causal?: boolean;
  /** 0: none. */
  readonly window?: number;
  readonly table?: Tensor | undefined;
  readonly lengths?: Tensor | undefined;
  readonly lengthK?: number;
  readonly queryLayout?: QueryLayout;
  /** Default `f32`; `bf16` takes less time where the CPU multiplies bfloat16, for the error that {@link attentionOp} states. */
  readonly precision?: Precision | undefined;
}

/** Dense attention; see {@link attentionOp}. */
export function attention(q: Tensor, k: Tensor, v: Tensor, options: AttentionOptions = {}): { o: Tensor; lse: Tensor } {
  const { table, lengths, scale = 1 / Math.sqrt(q.shape[3]), ...rest } = options;
  return attentionOp({ q, k, v, table, lengths }, { scale, ...rest });
}
