import { defineOp } from '@filigree/core-tensor';
import { checkFused, fusedAttributes, fusedCases, fusedNativeOnly, referenceProducts } from './fused.js';

const rounding = { absolute: 2e-3, relative: 5e-5 };

/**
 * The three projections of attention in one pass over their input: q = x Wqᵀ + bq, k = x Wkᵀ + bk, v = x Wvᵀ + bv.
 *
 * x [T, inFeatures] f32   query, key, value u8 [N, rowBytes] or [tiles, tileBytes], each of its own type and N   biases [N] f32
 * q, k, v [T, N] f32
 *
 * x is quantised once; results are the bits that three `quantization/matmul` give.
 */
export const qkvOp = /* @__PURE__ */ defineOp({
  name: 'quantization/qkv',
  inputs: ['x', 'query', 'key', 'value', 'queryBias?', 'keyBias?', 'valueBias?'],
  outputs: ['q', 'k', 'v'],
  attributes: fusedAttributes,
  infer({ x, query, key, value, queryBias, keyBias, valueBias }, form) {
    const weights = [
      ['query', query, queryBias],
      ['key', key, keyBias],
      ['value', value, valueBias],
    ] as const;
    checkFused('quantization qkv', x, weights, form);
    const [q, k, v] = form.outFeatures.map((rows) => ({ shape: [x.shape[0], rows], dtype: 'f32' as const }));
    return { q, k, v };
  },
  reference({ x, query, key, value, queryBias, keyBias, valueBias, q, k, v }, form) {
    const weights = [
      [query, queryBias],
      [key, keyBias],
      [value, valueBias],
    ] as const;
    const products = referenceProducts(x, weights, form);
    for (const [index, out] of [q, k, v].entries()) out.data.set(products[index]);
  },
  native: 'quantization_qkv',
  nativeOnly: fusedNativeOnly,
  tolerance: { q: rounding, k: rounding, v: rounding },
  cases: (fc) => fusedCases(fc, ['query', 'key', 'value'], (a, b) => [a, b, b], 8),
});
