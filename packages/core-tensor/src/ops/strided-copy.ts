import shader from '@filigree/wgsl/core/strided-copy.wgsl';
import { byteSize } from '../dtype.js';
import { OptionError } from '../errors.js';
import type { TensorMeta } from '../op.js';
import { sizeOf, stridesOf, type Shape } from '../shape.js';
import type { WebGpuDispatch } from '../webgpu-kernel.js';
import { elementwiseDispatch, u32 } from './plan.js';

/** Axes that copying kernels support. */
export const copyRank = 6;

export const stridedCopyShader = shader;

/** Throws when a tensor has more axes than copying kernels support. */
export function expectCopyRank(op: string, meta: TensorMeta): void {
  if (meta.shape.length > copyRank)
    throw new OptionError(`${op}: x has ${meta.shape.length} axes, at most ${copyRank} are supported`);
}

/** Calls `visit(target, source)` for every element of a result read from `source` by start and strides. */
export function forEachStrided(
  shape: Shape,
  start: number,
  strides: readonly number[],
  visit: (target: number, source: number) => void,
): void {
  const own = stridesOf(shape);
  for (let target = 0; target < sizeOf(shape); target++) {
    let [rest, source] = [target, start];
    for (let axis = 0; axis < shape.length; axis++) {
      const position = Math.floor(rest / own[axis]);
      rest -= position * own[axis];
      source += position * strides[axis];
    }
    visit(target, source);
  }
}

/** The dispatch of the strided-copy shader: result shape, start and strides in elements of the source. */
export function stridedCopyPlan(y: TensorMeta, start: number, strides: readonly number[]): WebGpuDispatch[] {
  const pad = (values: readonly number[], fill: number): number[] => [
    ...Array<number>(copyRank - values.length).fill(fill),
    ...values,
  ];
  const size = byteSize(y.dtype);
  return elementwiseDispatch(Math.ceil((sizeOf(y.shape) * size) / 4), [
    u32(sizeOf(y.shape)),
    u32(size),
    u32(start),
    ...pad(y.shape, 1).map(u32),
    ...pad(strides, 0).map(u32),
  ]);
}
