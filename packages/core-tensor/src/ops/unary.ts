import shader from '@filigree/wgsl/core/unary.wgsl';
import { caseDimension, caseTensor } from '../cases.js';
import { defineOp } from '../op.js';
import { sizeOf } from '../shape.js';
import type { Tensor } from '../tensor.js';
import { expectDType } from './check.js';
import { elementwiseDispatch, u32 } from './plan.js';

/** Functions of one number, in the order in which kernels number them. */
export const unaryKinds = [
  'neg',
  'abs',
  'exp',
  'log',
  'sqrt',
  'rsqrt',
  'reciprocal',
  'square',
  'tanh',
  'sigmoid',
  'relu',
  'relu2',
  'silu',
  'gelu',
  'gelu-erf',
] as const;
export type UnaryKind = (typeof unaryKinds)[number];

/** The definition of each kind; `gelu` is the tanh approximation, `gelu-erf` the exact one. */
export function applyUnary(kind: string, x: number): number {
  switch (kind) {
    case 'neg':
      return -x;
    case 'abs':
      return Math.abs(x);
    case 'exp':
      return Math.exp(x);
    case 'log':
      return Math.log(x);
    case 'sqrt':
      return Math.sqrt(x);
    case 'rsqrt':
      return 1 / Math.sqrt(x);
    case 'reciprocal':
      return 1 / x;
    case 'square':
      return x * x;
    case 'tanh':
      return Math.tanh(x);
    case 'sigmoid':
      return 1 / (1 + Math.exp(-x));
    case 'relu':
      return x > 0 || Number.isNaN(x) ? x : 0;
    case 'relu2':
      return x > 0 || Number.isNaN(x) ? x * x : 0;
    case 'silu':
      return x / (1 + Math.exp(-x));
    case 'gelu':
      return 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));
    default:
      return 0.5 * x * (1 + erf(x / Math.SQRT2));
  }
}

/** Error function to 1.2e-7 relative: Numerical Recipes' erfc Chebyshev fit (Press et al., §6.2). */
function erf(x: number): number {
  const t = 1 / (1 + 0.5 * Math.abs(x));
  const coefficients = [
    0.17087277, -0.82215223, 1.48851587, -1.13520398, 0.27886807, -0.18628806, 0.09678418, 0.37409196, 1.00002368,
  ];
  const polynomial = coefficients.reduce((sum, c) => sum * t + c, 0);
  const complement = t * Math.exp(-x * x - 1.26551223 + t * polynomial);
  return x >= 0 ? 1 - complement : complement - 1;
}

/**
 * y = f(x), element by element. x [...] f32, y [...] f32.
 *
 * GELU: Hendrycks and Gimpel, arXiv:1606.08415; ReLU²: So et al., arXiv:2109.08668; SiLU: Elfwing et al., arXiv:1702.03118.
 */
export const unaryOp = /* @__PURE__ */ defineOp({
  name: 'core/unary',
  inputs: ['x'],
  outputs: ['y'],
  attributes: { kind: { type: 'enum', values: unaryKinds } },
  infer({ x }) {
    expectDType('unary', 'x', x, 'f32');
    return { y: x };
  },
  reference({ x, y }, { kind }) {
    for (let index = 0; index < x.data.length; index++) y.data[index] = applyUnary(kind, x.data[index]);
  },
  native: 'core_unary',
  webgpu: {
    shader: () => shader,
    plan: ({ x }, { kind }, limits) =>
      elementwiseDispatch(x ? sizeOf(x.shape) : 0, { x: 4, y: 4 }, limits, [u32(unaryKinds.indexOf(kind as UnaryKind))]),
  },
  tolerance: { y: { absolute: 2e-6, relative: 2e-5 } },
  cases: (fc) =>
    fc.record({
      inputs: caseDimension(fc, 300).chain((size) => fc.record({ x: caseTensor(fc, [size], { low: -4, high: 4 }) })),
      attributes: fc.record({ kind: fc.constantFrom(...unaryKinds) }),
    }),
});

/** y = f(x) for a named function f. */
export function unary(x: Tensor, kind: UnaryKind): Tensor {
  return unaryOp({ x }, { kind }).y;
}
