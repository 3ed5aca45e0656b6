import shader from '@filigree/wgsl/core/matmul.wgsl';
import { caseDimension, caseTensor } from '../cases.js';
import { DTypeError, ShapeError } from '../errors.js';
import { defineOp } from '../op.js';
import { broadcastShapes, formatShape, sizeOf, type Shape } from '../shape.js';
import type { Tensor } from '../tensor.js';
import type { WebGpuDispatch, WebGpuLimits } from '../webgpu-kernel.js';
import { broadcastStrides } from './binary.js';
import { expectDType } from './check.js';
import { cut, groupsFor, u32 } from './plan.js';

/** Rows and columns of the result per invocation of the shader. */
const blockSize = 4;

function parts(shape: Shape, transpose: boolean): { batch: Shape; rows: number; columns: number } {
  const [first, second] = [shape[shape.length - 2], shape[shape.length - 1]];
  return { batch: shape.slice(0, -2), rows: transpose ? second : first, columns: transpose ? first : second };
}

/** Matrix index into a and b for every matrix of the broadcast batch. */
function batchOffsets(a: Shape, b: Shape, batch: Shape): { a: number[]; b: number[] } {
  const [stridesA, stridesB] = [broadcastStrides(a, batch), broadcastStrides(b, batch)];
  const offsets = { a: [] as number[], b: [] as number[] };
  for (let index = 0; index < sizeOf(batch); index++) {
    let [rest, atA, atB] = [index, 0, 0];
    for (let axis = batch.length - 1; axis >= 0; axis--) {
      const position = rest % batch[axis];
      rest = Math.floor(rest / batch[axis]);
      atA += position * stridesA[axis];
      atB += position * stridesB[axis];
    }
    offsets.a.push(atA);
    offsets.b.push(atB);
  }
  return offsets;
}

/**
 * The dispatches of one matrix product. Where a binding does not hold an argument, rows of y go in pieces (with the rows of a when those are
 * contiguous), columns where those of b are, and the inner dimension where neither is: later pieces of it add to the result.
 */
function matrixDispatches(
  { m, k, n }: { m: number; k: number; n: number },
  transposeA: boolean,
  transposeB: boolean,
  limits: WebGpuLimits,
  starts: { a: number; b: number; y: number },
): WebGpuDispatch[] {
  const rows = cut(m, transposeA ? { y: 4 * n } : { y: 4 * n, a: 4 * k }, limits);
  const inners = cut(k, { ...(transposeA ? { a: 4 * m } : {}), ...(transposeB ? {} : { b: 4 * n }), none: 0 }, limits);
  const columns = cut(n, transposeB ? { b: 4 * k } : { none: 0 }, limits);
  const range = (start: number, count: number): { byteOffset: number; byteLength: number } => ({
    byteOffset: 4 * start,
    byteLength: 4 * count,
  });
  // Without an inner dimension the result is zero, which a product over no steps writes.
  const steps = inners.length > 0 ? inners : [{ start: 0, count: 0 }];
  return rows.flatMap((row) =>
    columns.flatMap((column) =>
      steps.map((inner) => {
        // A transposed a is bound whole or by inner steps, and its rows start inside of a step; likewise the columns of b.
        const [aStart, aCount] = transposeA ? [inner.start * m, inner.count * m] : [row.start * k, row.count * k];
        const [bStart, bCount] = transposeB ? [column.start * k, column.count * k] : [inner.start * n, inner.count * n];
        const skipA = transposeA ? row.start : inner.start;
        const skipB = transposeB ? inner.start : column.start;
        return {
          workgroups: groupsFor(Math.ceil(row.count / blockSize) * Math.ceil(column.count / blockSize)),
          uniforms: [
            row.count,
            inner.count,
            column.count,
            transposeA ? 1 : k,
            transposeA ? m : 1,
            transposeB ? 1 : n,
            transposeB ? k : 1,
            n,
            column.start,
            inner.start > 0 ? 1 : 0,
          ].map(u32),
          ranges: {
            a: range(starts.a + aStart + skipA, aCount - skipA),
            b: range(starts.b + bStart + skipB, bCount - skipB),
            y: range(starts.y + row.start * n, row.count * n),
          },
        };
      }),
    ),
  );
}

/**
 * y = a · b over the last two axes; the axes before broadcast.
 *
 * a [..., M, K] (or [..., K, M] with `transposeA`)   b [..., K, N] (or [..., N, K] with `transposeB`)   y [..., M, N]
 *
 * f32, or f64 where the backend computes in it. Rows of y are the same bits whatever other rows a has.
 */
export const matmulOp = /* @__PURE__ */ defineOp({
  name: 'core/matmul',
  inputs: ['a', 'b'],
  outputs: ['y'],
  attributes: { transposeA: { type: 'boolean', default: false }, transposeB: { type: 'boolean', default: false } },
  infer({ a, b }, { transposeA, transposeB }) {
    expectDType('matmul', 'a', a, 'f32', 'f64');
    if (a.dtype !== b.dtype) throw new DTypeError(`matmul: a is ${a.dtype} and b is ${b.dtype}; cast one of them`);
    if (a.shape.length < 2 || b.shape.length < 2) {
      throw new ShapeError(`matmul: a ${formatShape(a.shape)} and b ${formatShape(b.shape)} need two axes or more`);
    }
    const [left, right] = [parts(a.shape, transposeA), parts(b.shape, transposeB)];
    if (left.columns !== right.rows) {
      throw new ShapeError(
        `matmul: a ${formatShape(a.shape)} has ${left.columns} columns, b ${formatShape(b.shape)} has ${right.rows} rows`,
      );
    }
    const batch = broadcastShapes(left.batch, right.batch, 'matmul');
    return { y: { shape: [...batch, left.rows, right.columns], dtype: a.dtype } };
  },
  reference({ a, b, y }, { transposeA, transposeB }) {
    const [left, right] = [parts(a.shape, transposeA), parts(b.shape, transposeB)];
    const [m, k, n] = [left.rows, left.columns, right.columns];
    const offsets = batchOffsets(left.batch, right.batch, y.shape.slice(0, -2));
    for (let batch = 0; batch < offsets.a.length; batch++) {
      const [atA, atB] = [offsets.a[batch] * m * k, offsets.b[batch] * k * n];
      for (let row = 0; row < m; row++) {
        for (let column = 0; column < n; column++) {
          let sum = 0;
          for (let inner = 0; inner < k; inner++) {
            const valueA = a.data[atA + (transposeA ? inner * m + row : row * k + inner)];
            const valueB = b.data[atB + (transposeB ? column * k + inner : inner * n + column)];
            sum += valueA * valueB;
          }
          y.data[(batch * m + row) * n + column] = sum;
        }
      }
    }
  },
  native: 'core_matmul',
  webgpu: {
    shader: () => shader,
    plan({ a, b, y }, { transposeA, transposeB }, limits) {
      if (!a || !b || !y || sizeOf(y.shape) === 0) return [];
      const [left, right] = [parts(a.shape, Boolean(transposeA)), parts(b.shape, Boolean(transposeB))];
      const size = { m: left.rows, k: left.columns, n: right.columns };
      const offsets = batchOffsets(left.batch, right.batch, y.shape.slice(0, -2));
      return offsets.a.flatMap((matrixA, batch) =>
        matrixDispatches(size, Boolean(transposeA), Boolean(transposeB), limits, {
          a: matrixA * size.m * size.k,
          b: offsets.b[batch] * size.k * size.n,
          y: batch * size.m * size.n,
        }),
      );
    },
  },
  tolerance: { y: { absolute: 1e-4, relative: 2e-5 } },
  cases: (fc) =>
    fc
      .record({
        m: caseDimension(fc, 40),
        k: caseDimension(fc, 70),
        n: caseDimension(fc, 40),
        batch: fc.array(fc.integer({ min: 1, max: 3 }), { maxLength: 2 }),
        shared: fc.boolean(),
        transposeA: fc.boolean(),
        transposeB: fc.boolean(),
        scale: fc.constantFrom(1, 1, 64, 1 / 64),
      })
      .chain(({ m, k, n, batch, shared, transposeA, transposeB, scale }) =>
        fc.record({
          inputs: fc.record({
            a: caseTensor(fc, [...batch, ...(transposeA ? [k, m] : [m, k])], { low: -1, high: 1 }),
            b: caseTensor(fc, [...(shared ? [] : batch), ...(transposeB ? [n, k] : [k, n])], { low: -1, high: 1 }),
          }),
          attributes: fc.constant({ transposeA, transposeB }),
          scale: fc.constant(scale),
        }),
      )
      // Sums of products of large values need a tolerance of their own size: products stay near one, whatever the factors are.
      .map(({ inputs, attributes, scale }) => ({
        attributes,
        inputs: { a: scaled(inputs.a, scale), b: scaled(inputs.b, 1 / scale) },
      })),
});

/** Values within ±`most`. */
function scaled<T extends { data: { [index: number]: number; length: number } }>(tensor: T, most: number): T {
  let largest = 1;
  for (let index = 0; index < tensor.data.length; index++) largest = Math.max(largest, Math.abs(tensor.data[index]));
  for (let index = 0; index < tensor.data.length; index++)
    tensor.data[index] = Math.fround(tensor.data[index] / largest) * most;
  return tensor;
}

/** Matrix product over the last two axes, batched and broadcast over the others. */
export function matmul(a: Tensor, b: Tensor, options: { transposeA?: boolean; transposeB?: boolean } = {}): Tensor {
  return matmulOp({ a, b }, options).y;
}
