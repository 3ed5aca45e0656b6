import shader from '@filigree/wgsl/core/write-slice.wgsl';
import { caseTensor } from '../cases.js';
import { byteSize } from '../dtype.js';
import { DTypeError, OptionError, ShapeError } from '../errors.js';
import { defineOp, type TensorMeta } from '../op.js';
import { formatShape, sizeOf } from '../shape.js';
import { empty, type Tensor } from '../tensor.js';
import { groupsFor, itemsPerBinding, u32, wordMultiple } from './plan.js';

function geometry(target: TensorMeta, source: TensorMeta, axis: number): { outer: number; width: number; part: number } {
  const inner = sizeOf(target.shape.slice(axis + 1));
  return { outer: sizeOf(target.shape.slice(0, axis)), width: target.shape[axis] * inner, part: source.shape[axis] * inner };
}

/**
 * Writes `source` into `target` along `axis` from `start`, in place. Any dtype; both the same; the other axes equal.
 */
export const writeSliceOp = /* @__PURE__ */ defineOp({
  name: 'core/write-slice',
  inputs: ['target', 'source'],
  outputs: [],
  attributes: { axis: { type: 'number' }, start: { type: 'number' } },
  mutates: ['target'],
  dynamic: ['start'],
  infer({ target, source }, { axis, start }) {
    if (target.dtype !== source.dtype) throw new DTypeError(`write-slice: target is ${target.dtype}, source ${source.dtype}`);
    const rank = target.shape.length;
    if (!Number.isInteger(axis) || axis < 0 || axis >= rank)
      throw new ShapeError(`write-slice: axis ${axis} is outside of rank ${rank}`);
    const fits =
      source.shape.length === rank &&
      Number.isInteger(start) &&
      start >= 0 &&
      source.shape.every((dimension, at) =>
        at === axis ? start + dimension <= target.shape[at] : dimension === target.shape[at],
      );
    if (!fits) {
      throw new ShapeError(
        `write-slice: source ${formatShape(source.shape)} does not fit target ${formatShape(target.shape)} at ${start} of axis ${axis}`,
      );
    }
    return {};
  },
  reference({ target, source }, { axis, start }) {
    const { outer, width, part } = geometry(target, source, axis);
    const from = source.shape[axis] === 0 ? 0 : (part / source.shape[axis]) * start;
    for (let row = 0; row < outer; row++) {
      target.data.set(source.data.subarray(row * part, (row + 1) * part), row * width + from);
    }
  },
  native: 'core_write_slice',
  webgpu: {
    shader: () => shader,
    plan({ target, source }, { axis, start }, limits) {
      if (!target || !source || sizeOf(source.shape) === 0) return [];
      const { outer, width, part } = geometry(target, source, Number(axis));
      const size = byteSize(target.dtype);
      const from = (part / source.shape[Number(axis)]) * Number(start);
      // Elements of the source that lie before position `at` of the target.
      const before = (at: number): number => Math.floor(at / width) * part + Math.max(0, Math.min(part, (at % width) - from));
      const end = (outer - 1) * width + from + part;
      const most = itemsPerBinding(limits, size, wordMultiple);
      const dispatches = [];
      for (let first = from - (from % wordMultiple); first < end; first += most) {
        const count = Math.min(most, end - first);
        const [low, high] = [before(first), before(first + count)];
        if (low === high) continue;
        const sourceFirst = low - (low % wordMultiple);
        const words = Math.ceil((count * size) / 4);
        dispatches.push({
          workgroups: groupsFor(words),
          uniforms: [words, count, width, part, from, size, first, sourceFirst].map(u32),
          ranges: {
            target: { byteOffset: first * size, byteLength: count * size },
            source: { byteOffset: sourceFirst * size, byteLength: (high - sourceFirst) * size },
          },
        });
      }
      return dispatches;
    },
  },
  cases: (fc) =>
    fc
      .record({
        shape: fc.array(fc.integer({ min: 1, max: 6 }), { minLength: 1, maxLength: 3 }),
        axis: fc.nat(2),
        start: fc.nat(5),
        part: fc.nat(6),
        dtype: fc.constantFrom('f32' as const, 'f16' as const, 'u8' as const, 'i32' as const),
      })
      .chain(({ shape, axis: wanted, start: wantedStart, part, dtype }) => {
        const axis = wanted % shape.length;
        const start = wantedStart % shape[axis];
        const count = Math.min(part, shape[axis] - start);
        const range = dtype === 'u8' ? { dtype, low: 0, high: 255 } : { dtype };
        return fc.record({
          inputs: fc.record({
            target: caseTensor(fc, shape, range),
            source: caseTensor(
              fc,
              shape.map((dimension, at) => (at === axis ? count : dimension)),
              range,
            ),
          }),
          attributes: fc.constant({ axis, start }),
        });
      }),
});

/** Writes `source` into `target` along `axis` from `start`, in place. */
export function writeSlice(target: Tensor, source: Tensor, options: { axis: number; start: number }): void {
  writeSliceOp({ target, source }, options);
}

/** Joins tensors along an axis into a new one. */
export function concat(tensors: readonly Tensor[], axis: number): Tensor {
  const first = tensors.at(0);
  if (!first) throw new OptionError('concat: the list of tensors is empty');
  const length = tensors.reduce((sum, tensor) => sum + (tensor.shape[axis] ?? 0), 0);
  const joined = empty(
    first.backend,
    first.shape.map((dimension, at) => (at === axis ? length : dimension)),
    first.dtype,
  );
  let start = 0;
  for (const tensor of tensors) {
    writeSlice(joined, tensor, { axis, start });
    start += tensor.shape[axis] ?? 0;
  }
  return joined;
}
