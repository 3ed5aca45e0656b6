import shader from '@filigree/wgsl/core/binary.wgsl';
import { caseTensor } from '../cases.js';
import { DTypeError } from '../errors.js';
import { defineOp, type TensorMeta } from '../op.js';
import { broadcastShapes, sizeOf, stridesOf, type Shape } from '../shape.js';
import type { Tensor } from '../tensor.js';
import type { WebGpuLimits } from '../webgpu-kernel.js';
import { expectDType } from './check.js';
import { composedShader, groupsFor, itemsPerBinding, reach, u32, wordMultiple } from './plan.js';

/** Functions of two numbers, in the order in which kernels number them; comparisons give 1 or 0. */
export const binaryKinds = ['add', 'sub', 'mul', 'div', 'max', 'min', 'pow', 'eq', 'ne', 'lt', 'le', 'gt', 'ge'] as const;
export type BinaryKind = (typeof binaryKinds)[number];

/** Axes of a broadcast result that kernels support. */
const maximumRank = 6;

/** The definition of each kind; `max` and `min` return NaN when either side is NaN. */
function applyBinary(kind: string, a: number, b: number): number {
  switch (kind) {
    case 'add':
      return a + b;
    case 'sub':
      return a - b;
    case 'mul':
      return a * b;
    case 'div':
      return a / b;
    case 'max':
      return Math.max(a, b);
    case 'min':
      return Math.min(a, b);
    case 'pow':
      return a ** b;
    case 'eq':
      return a === b ? 1 : 0;
    case 'ne':
      return a !== b ? 1 : 0;
    case 'lt':
      return a < b ? 1 : 0;
    case 'le':
      return a <= b ? 1 : 0;
    case 'gt':
      return a > b ? 1 : 0;
    default:
      return a >= b ? 1 : 0;
  }
}

/** Strides of `shape` seen as the broadcast `result`: 0 along repeated axes. */
export function broadcastStrides(shape: Shape, result: Shape): number[] {
  const strides = stridesOf(shape);
  return result.map((_, axis) => {
    const own = axis - result.length + shape.length;
    return own < 0 || shape[own] === 1 ? 0 : strides[own];
  });
}

interface Reach {
  readonly low: number;
  readonly high: number;
}

/** Pieces of y, and the elements of a and b they need; small enough that each fits into a binding. */
function broadcastPieces(
  shape: Shape,
  stridesA: readonly number[],
  stridesB: readonly number[],
  limits: WebGpuLimits,
): { start: number; count: number; reachA: Reach; reachB: Reach }[] {
  const most = itemsPerBinding(limits, 4, wordMultiple);
  const pieces = [];
  for (let start = 0, total = sizeOf(shape); start < total;) {
    let count = Math.min(most, total - start);
    let [reachA, reachB] = [reach(shape, stridesA, start, start + count), reach(shape, stridesB, start, start + count)];
    while (count > 1 && Math.max(reachA.high - reachA.low, reachB.high - reachB.low) > most) {
      count = Math.ceil(count / 2);
      [reachA, reachB] = [reach(shape, stridesA, start, start + count), reach(shape, stridesB, start, start + count)];
    }
    pieces.push({ start, count, reachA, reachB });
    start += count;
  }
  return pieces;
}

function words({ low, high }: Reach): { byteOffset: number; byteLength: number } {
  return { byteOffset: 4 * low, byteLength: 4 * (high - low) };
}

/**
 * y = f(a, b) with NumPy broadcasting. a, b f32 or both i32 → y of the same dtype; comparisons give 1 and 0 in that dtype.
 *
 * i32 supports everything but `pow`; integer division truncates towards zero, and by zero gives 0.
 */
export const binaryOp = /* @__PURE__ */ defineOp({
  name: 'core/binary',
  inputs: ['a', 'b'],
  outputs: ['y'],
  attributes: { kind: { type: 'enum', values: binaryKinds } },
  infer({ a, b }, { kind }) {
    expectDType('binary', 'a', a, 'f32', 'i32');
    if (a.dtype !== b.dtype) throw new DTypeError(`binary ${kind}: a is ${a.dtype} and b is ${b.dtype}; cast one of them`);
    if (a.dtype === 'i32' && kind === 'pow') throw new DTypeError('binary pow: takes f32, a and b are i32');
    const shape = broadcastShapes(a.shape, b.shape, `binary ${kind}`);
    if (shape.length > maximumRank) throw new DTypeError(`binary ${kind}: results have at most ${maximumRank} axes`);
    return { y: { shape, dtype: a.dtype } };
  },
  reference({ a, b, y }, { kind }) {
    const strides = stridesOf(y.shape);
    const [stridesA, stridesB] = [broadcastStrides(a.shape, y.shape), broadcastStrides(b.shape, y.shape)];
    for (let index = 0; index < y.data.length; index++) {
      let [rest, atA, atB] = [index, 0, 0];
      for (let axis = 0; axis < strides.length; axis++) {
        const position = Math.floor(rest / strides[axis]);
        rest -= position * strides[axis];
        atA += position * stridesA[axis];
        atB += position * stridesB[axis];
      }
      const value = applyBinary(kind, a.data[atA], b.data[atB]);
      y.data[index] = y.dtype === 'i32' ? (Number.isFinite(value) ? Math.trunc(value) : 0) : value;
    }
  },
  native: 'core_binary',
  webgpu: {
    shader(_, { a }) {
      const type = a?.dtype === 'i32' ? 'i32' : 'f32';
      return composedShader(`core/binary ${type}`, () => shader.replaceAll('element_t', type));
    },
    plan({ a, b, y }, { kind }, limits) {
      if (!a || !b || !y) return [];
      const { shape } = y;
      const pad = (values: readonly number[], fill: number): number[] => [
        ...Array<number>(maximumRank - values.length).fill(fill),
        ...values,
      ];
      const [stridesA, stridesB] = [broadcastStrides(a.shape, shape), broadcastStrides(b.shape, shape)];
      return broadcastPieces(shape, stridesA, stridesB, limits).map(({ start, count, reachA, reachB }) => ({
        workgroups: groupsFor(count),
        uniforms: [
          count,
          binaryKinds.indexOf(kind as BinaryKind),
          ...pad(shape, 1),
          ...pad(stridesA, 0),
          ...pad(stridesB, 0),
          start,
          reachA.low,
          reachB.low,
        ].map(u32),
        ranges: { a: words(reachA), b: words(reachB), y: words({ low: start, high: start + count }) },
      }));
    },
  },
  tolerance: { y: { absolute: 1e-6, relative: 2e-5 } },
  cases: (fc) =>
    fc
      .record({
        shape: fc.array(fc.nat(5), { maxLength: 4 }),
        dropA: fc.array(fc.boolean(), { minLength: 4, maxLength: 4 }),
        dropB: fc.array(fc.boolean(), { minLength: 4, maxLength: 4 }),
        cutB: fc.nat(4),
        dtype: fc.constantFrom('f32' as const, 'f32' as const, 'i32' as const),
      })
      .chain(({ shape, dropA, dropB, cutB, dtype }) => {
        const shapeA = shape.map((dimension, axis) => (dropA[axis] ? 1 : dimension));
        const shapeB = shape.map((dimension, axis) => (dropB[axis] ? 1 : dimension)).slice(Math.min(cutB, shape.length));
        const kinds = dtype === 'i32' ? binaryKinds.filter((kind) => kind !== 'pow') : binaryKinds;
        return fc.constantFrom(...kinds).chain((kind) => {
          // Bases of pow are positive: the result for negative ones differs between definitions.
          const range = kind === 'pow' ? { low: 1, high: 2 } : { low: -4, high: 4 };
          return fc.record({
            inputs: fc.record({
              a:
                kind === 'pow'
                  ? caseTensor(fc, shapeA, { dtype, ...range }).map(positive)
                  : caseTensor(fc, shapeA, { dtype, ...range }),
              b: caseTensor(fc, shapeB, { dtype, ...range }),
            }),
            attributes: fc.constant({ kind }),
          });
        });
      }),
});

function positive<T extends TensorMeta & { data: { [index: number]: number; length: number } }>(tensor: T): T {
  for (let index = 0; index < tensor.data.length; index++) tensor.data[index] = Math.min(Math.abs(tensor.data[index]) + 0.5, 4);
  return tensor;
}

/** y = f(a, b) for a named function f, with broadcasting. */
export function binary(a: Tensor, b: Tensor, kind: BinaryKind): Tensor {
  return binaryOp({ a, b }, { kind }).y;
}

/** a + b with broadcasting. */
export function add(a: Tensor, b: Tensor): Tensor {
  return binary(a, b, 'add');
}

/** a − b with broadcasting. */
export function sub(a: Tensor, b: Tensor): Tensor {
  return binary(a, b, 'sub');
}

/** a · b, element by element, with broadcasting. */
export function mul(a: Tensor, b: Tensor): Tensor {
  return binary(a, b, 'mul');
}

/** a / b with broadcasting. */
export function div(a: Tensor, b: Tensor): Tensor {
  return binary(a, b, 'div');
}
