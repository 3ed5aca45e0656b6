import shader from '@filigree/wgsl/core/cast.wgsl';
import { caseDimension, caseTensor } from '../cases.js';
import { byteSize, dtypes, type DType } from '../dtype.js';
import { DTypeError } from '../errors.js';
import { defineOp } from '../op.js';
import { sizeOf } from '../shape.js';
import type { Tensor } from '../tensor.js';
import { cut, groupsFor, u32, wordMultiple } from './plan.js';

const ranges: Readonly<Partial<Record<DType, readonly [number, number]>>> = {
  i32: [-2147483648, 2147483647],
  u32: [0, 4294967295],
  i8: [-128, 127],
  u8: [0, 255],
};

/**
 * The same values in another dtype. Floats round to nearest even; floats to integers truncate towards zero and saturate, NaN gives 0;
 * anything but zero is true. x [...] → y [...]; i64 is storage and not taken.
 */
export const castOp = /* @__PURE__ */ defineOp({
  name: 'core/cast',
  inputs: ['x'],
  outputs: ['y'],
  attributes: { dtype: { type: 'enum', values: dtypes } },
  infer({ x }, { dtype }) {
    if (x.dtype === 'i64' || dtype === 'i64') throw new DTypeError('cast: i64 is a storage type; read it on the host');
    return { y: { shape: x.shape, dtype } };
  },
  reference({ x, y }, { dtype }) {
    const range = ranges[dtype];
    for (let index = 0; index < x.data.length; index++) {
      const value = x.data[index];
      if (dtype === 'bool') y.data[index] = value !== 0 ? 1 : 0;
      else if (range) y.data[index] = Number.isNaN(value) ? 0 : Math.max(range[0], Math.min(range[1], Math.trunc(value)));
      else y.data[index] = value;
    }
  },
  native: 'core_cast',
  webgpu: {
    shader: () => shader,
    plan({ x }, { dtype }, limits) {
      if (!x) return [];
      const to = dtype as DType;
      return cut(sizeOf(x.shape), { x: byteSize(x.dtype), y: byteSize(to) }, limits, wordMultiple).map(({ count, ranges }) => {
        const words = Math.ceil((count * byteSize(to)) / 4);
        return {
          workgroups: groupsFor(words),
          uniforms: [words, count, dtypes.indexOf(x.dtype), dtypes.indexOf(to)].map(u32),
          ranges,
        };
      });
    },
  },
  cases: (fc) => {
    const numeric = dtypes.filter((dtype) => dtype !== 'i64' && dtype !== 'f64');
    return fc
      .tuple(caseDimension(fc, 150), fc.constantFrom(...numeric), fc.constantFrom(...numeric))
      .chain(([size, from, to]) => {
        const range =
          from === 'u8' || from === 'u32'
            ? { low: 0, high: 250 }
            : from === 'bool'
              ? { low: 0, high: 1 }
              : { low: -300, high: 300 };
        return fc.record({
          inputs: fc.record({
            x: caseTensor(fc, [size], { dtype: from, ...(from === 'i8' ? { low: -128, high: 127 } : range) }),
          }),
          attributes: fc.constant({ dtype: to }),
        });
      });
  },
  tolerance: { y: { absolute: 0, relative: 0 } },
});

/** x in another dtype. */
export function cast(x: Tensor, dtype: DType): Tensor {
  return castOp({ x }, { dtype }).y;
}
