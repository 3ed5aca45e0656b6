import { applyUnary, defineOp, gateKinds, ShapeError } from '@filigree/core-tensor';
import { checkFused, fusedAttributes, fusedCases, fusedNativeOnly, referenceProducts } from './fused.js';

/**
 * The gated half of a feed-forward layer in one pass over its input: h = f(x Gᵀ + bg) · (x Uᵀ + bu), f by `kind`.
 * Shazeer, "GLU Variants Improve Transformer", arXiv:2002.05202.
 *
 * x [T, inFeatures] f32   gate, up u8 [N, rowBytes] or [tiles, tileBytes], each of its own type   biases [N] f32   h [T, N] f32
 *
 * x is quantised once, and the products never reach memory; h is the bits that two `quantization/matmul` and `core/gated-activation` give.
 */
export const gluOp = /* @__PURE__ */ defineOp({
  name: 'quantization/glu',
  inputs: ['x', 'gate', 'up', 'gateBias?', 'upBias?'],
  outputs: ['h'],
  attributes: /* @__PURE__ */ Object.assign({}, fusedAttributes, {
    kind: { type: 'enum', values: gateKinds, default: 'silu' },
  } as const),
  infer({ x, gate, up, gateBias, upBias }, form) {
    const weights = [
      ['gate', gate, gateBias],
      ['up', up, upBias],
    ] as const;
    checkFused('quantization glu', x, weights, form);
    const [rows, others] = form.outFeatures;
    if (rows !== others) throw new ShapeError(`quantization glu: gate has ${rows} rows, up ${others}`);
    return { h: { shape: [x.shape[0], rows], dtype: 'f32' as const } };
  },
  reference({ x, gate, up, gateBias, upBias, h }, { kind, ...form }) {
    const weights = [
      [gate, gateBias],
      [up, upBias],
    ] as const;
    const [gates, ups] = referenceProducts(x, weights, form);
    for (let index = 0; index < gates.length; index++) h.data[index] = applyUnary(kind, gates[index]) * ups[index];
  },
  native: 'quantization_glu',
  nativeOnly: fusedNativeOnly,
  // The rounding of either f32 sum is multiplied with the other one.
  tolerance: { h: { absolute: 5e-2, relative: 1e-4 } },
  cases: (fc) =>
    fusedCases(fc, ['gate', 'up'], (a) => [a, a], 1).chain((made) =>
      fc.constantFrom(...gateKinds).map((kind) => ({ ...made, attributes: { ...made.attributes, kind } })),
    ),
});
