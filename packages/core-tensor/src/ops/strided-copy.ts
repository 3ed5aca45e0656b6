import shader from '@filigree/wgsl/core/strided-copy.wgsl';
import { byteSize } from '../dtype.js';
import { OptionError } from '../errors.js';
import type { TensorMeta } from '../op.js';
import { sizeOf, stridesOf, type Shape } from '../shape.js';
import type { WebGpuDispatch, WebGpuLimits } from '../webgpu-kernel.js';
import { cut, groupsFor, itemsPerBinding, reach, u32, wordMultiple } from './plan.js';

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
export function stridedCopyPlan(
  y: TensorMeta,
  start: number,
  strides: readonly number[],
  limits: WebGpuLimits,
): WebGpuDispatch[] {
  const pad = (values: readonly number[], fill: number): number[] => [
    ...Array<number>(copyRank - values.length).fill(fill),
    ...values,
  ];
  const size = byteSize(y.dtype);
  return cut(sizeOf(y.shape), { y: size }, limits, wordMultiple).flatMap((piece) => {
    const { low, high } = reach(y.shape, strides, piece.start, piece.start + piece.count);
    return sourceWindows(start + low, start + high, size, limits).map((window) => {
      const words = Math.ceil((piece.count * size) / 4);
      const geometry = [...pad(y.shape, 1), ...pad(strides, 0), piece.start, window.start, window.count];
      return {
        workgroups: groupsFor(words),
        uniforms: [words, piece.count, size, start, ...geometry].map(u32),
        ranges: { ...piece.ranges, x: { byteOffset: window.start * size, byteLength: window.count * size } },
      };
    });
  });
}

/** Windows of a binding's size over the elements [low, high) of a source, each starting on a word. */
export function sourceWindows(
  low: number,
  high: number,
  elementBytes: number,
  limits: WebGpuLimits,
): { start: number; count: number }[] {
  const most = itemsPerBinding(limits, elementBytes, wordMultiple);
  const windows = [];
  for (let start = low - (low % (4 / elementBytes)); start < high; start += most) {
    windows.push({ start, count: Math.min(most, high - start) });
  }
  return windows;
}
