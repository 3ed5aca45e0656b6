import {
  caseTensor,
  defineOp,
  DTypeError,
  ExecutionError,
  OptionError,
  scope,
  ShapeError,
  type Tensor,
} from '@filigree/core-tensor';
import { tileKeys } from '../visible-keys.js';
import { attentionOutputs, attentionTolerance, checkBias, checkKvMap, keyCapacity, precisions, queryLayouts } from './check.js';
import { biasOfCase, kvMapOfCase, pagedCase } from './cases.js';
import { attributesOf, finishAttention, scaledQueries, type ExecutorCall } from './executor-call.js';
import { checkScoreOptions } from './kept-keys.js';
import { attendRow, biasOf, geometryOf, someKeys } from './reference.js';
import { tiledAttributes, tiledCase } from './tiled-cases.js';
import { attentionKernel } from './webgpu.js';

/**
 * Exact attention with online softmax: o = softmax(scale · q kᵀ) v over the visible keys, and its log-sum-exp.
 *
 * q [B,Hq,Lq,D] (or [B,Lq,Hq,D] with queryLayout `blhd`) f32   k [pages,Hk,P,D], v [pages,Hk,P,Dv] f32 or f16
 * table i32 [B, pages per element]: without it page b is the whole cache of element b   lengths i32 [B]: keys per element
 * kvMap i32 [Hq]: query head → key-value head; without it, h reads floor(h / (Hq/Hk))
 * bias f32 [pages,Hk,P], not beside a kvMap: added to the scores of a key, behind the softcap; −∞ hides the key, whatever its numbers are
 * o as q with Dv, f32   lse [B,Hq,Lq] f32, natural logarithm
 *
 * The last query sits at the last key: query i is at position lenK − Lq + i. Causal:
 * key j visible iff j ≤ position; window W > 0: position − j < W. softcap c > 0: scores become c·tanh(score / c). A query without keys gives
 * o = 0, lse = −∞. 2·cells·(D + Dv) operations; nothing of size Lq × Lk.
 *
 * precision `bf16` rounds q, k and v to bfloat16 (to nearest, ties to even), sums their products in f32 and scales the sums; the weights of the values
 * are rounded too, as 2^(score·log2 e − M) with an integer M, and o and lse come from the sum of the rounded ones. Relative error of o (RMS) on normally
 * distributed q, k and v of 64 channels: 3.3e-3. CPUs with AVX-512 BF16 multiply pairs; other paths and WebGPU round and take no less time.
 *
 * pvSkip τ > 0: a query leaves a tile of 64 positions out of o and lse when its scores there are all ≤ the largest one of the tiles before − τ.
 * scoreM 4 or 8: of every group floor(j / scoreM) of its keys a query keeps the scoreN with the largest scores (ties: lower j); the first
 * scoreSinks keys and those with position − j < scoreRecent do not compete and stay.
 *
 * Dao, "FlashAttention-2", arXiv:2307.08691; "BLASST", arXiv:2512.12087 (pvSkip); Chen et al., "DFSS", arXiv:2203.00091 (N:M).
 */
export const attentionOp = /* @__PURE__ */ defineOp({
  name: 'sparse-attention/attention',
  inputs: ['q', 'k', 'v', 'table?', 'lengths?', 'kvMap?', 'bias?'],
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
    pvSkip: { type: 'number', default: 0 },
    scoreN: { type: 'number', default: 0 },
    scoreM: { type: 'number', default: 0 },
    scoreSinks: { type: 'number', default: 0 },
    scoreRecent: { type: 'number', default: 0 },
  },
  dynamic: ['lengthK'],
  infer({ q, k, v, table, lengths, kvMap, bias }, { lengthK, window, queryLayout, ...options }) {
    const outputs = attentionOutputs('attention', { q, k, v, table }, queryLayout);
    checkKvMap('attention', k, outputs.lse.shape[1], kvMap);
    checkBias('attention', k, bias, kvMap);
    checkScoreOptions('attention', options);
    if (lengths && (lengths.dtype !== 'i32' || lengths.shape.join() !== String(q.shape[0]))) {
      throw new DTypeError('attention: lengths must be i32 [B]');
    }
    if (lengthK > keyCapacity(k, table))
      throw new ShapeError(`attention: lengthK is ${lengthK}, k holds ${keyCapacity(k, table)} keys`);
    if (!Number.isInteger(window) || window < 0)
      throw new OptionError(`attention: window is ${window}, it must be a non-negative integer`);
    return outputs;
  },
  reference(io, { causal, window, lengthK, queryLayout, ...options }) {
    const geometry = geometryOf(io, queryLayout, io.kvMap?.data);
    const capacity = keyCapacity(io.k, io.table);
    for (let batch = 0; batch < geometry.batch; batch++) {
      const length = io.lengths?.data[batch] ?? (lengthK < 0 ? capacity : lengthK);
      if (length < 0 || length > capacity)
        throw new ExecutionError(`attention: length ${length} is outside of the ${capacity} keys of k`);
      for (let query = 0; query < geometry.lengthQ; query++) {
        const position = length - geometry.lengthQ + query;
        const keys = Array.from({ length }, (_, key) => key).filter(
          (key) => (!causal || key <= position) && (window === 0 || position - key < window),
        );
        const visible = { keys, tiles: keys.map((key) => Math.floor(key / tileKeys)), position };
        for (let head = 0; head < geometry.heads; head++) {
          const shown = (key: number): boolean => biasOf(io, geometry.keyRow(batch, head, key)) !== -Infinity;
          attendRow(io, geometry, { batch, head, query }, io.bias ? someKeys(visible, shown) : visible, options);
        }
      }
    }
  },
  native: 'sparse_attention_attention',
  webgpu: attentionKernel,
  tolerance: attentionTolerance,
  cases: (fc) => {
    const usual = pagedCase(fc).chain(({ batch, lengthQ, lengthK, inputs, queryLayout, dim, ...heads }) =>
      fc.record({
        inputs: fc
          .record({
            ...inputs,
            lengths: fc.option(caseTensor(fc, [batch], { dtype: 'i32', low: 0, high: lengthK }), { nil: undefined }),
            kvMap: kvMapOfCase(fc, heads),
            biases: biasOfCase(fc, [-3, -0.5, 0, 0.25, 2, 6, -200, -Infinity]),
          })
          .map(({ biases, ...rest }) => ({ ...rest, bias: rest.kvMap ? undefined : biases(rest.k) })),
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
    );
    const tiled = tiledCase(fc).chain(({ inputs, lengthK, queryLayout, ...heads }) =>
      fc
        .record({
          kvMap: kvMapOfCase(fc, heads),
          // Others would make scores that are equal but for their rounding.
          biases: biasOfCase(fc, [0, 0, -Infinity]),
          causal: fc.boolean(),
          window: fc.constantFrom(0, 0, 40),
          options: tiledAttributes(fc),
        })
        .map(({ kvMap, biases, options, ...rest }) => ({
          inputs: { ...inputs, kvMap, bias: kvMap ? undefined : biases(inputs.k) },
          attributes: { lengthK, queryLayout, ...rest, ...options },
        })),
    );
    return fc.oneof({ arbitrary: usual, weight: 2 }, tiled);
  },
});

export interface AttentionOptions extends ExecutorCall {
  readonly causal?: boolean;
  /** 0: none. */
  readonly window?: number;
  readonly lengths?: Tensor | undefined;
  readonly lengthK?: number;
  /** i32 [Hq]: query head → key-value head. */
  readonly kvMap?: Tensor | undefined;
  /** f32 [pages, Hk, P]: added to the scores of every key; not beside a kvMap. */
  readonly bias?: Tensor | undefined;
}

/** Dense attention; see {@link attentionOp} and {@link ExecutorCall}. */
export function attention(q: Tensor, k: Tensor, v: Tensor, options: AttentionOptions = {}): { o: Tensor; lse: Tensor } {
  const { causal, window, lengths, lengthK, kvMap, bias, ...call } = options;
  return scope(() => {
    const inputs = { q: scaledQueries(q, call), k, v, table: call.table, lengths, kvMap, bias };
    return finishAttention(attentionOp(inputs, { ...attributesOf(q, call), causal, window, lengthK }), call);
  });
}
