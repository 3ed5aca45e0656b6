import shader from '@filigree/wgsl/core/cast.wgsl';
import { caseDimension, caseTensor } from '../cases.js';
import { dtypes, type DType } from '../dtype.js';
import { DTypeError } from '../errors.js';
import { defineOp } from '../op.js';
import { sizeOf } from '../shape.js';
import type { Tensor } from '../tensor.js';
import { elementwiseDispatch, u32 } from './plan.js';

const ranges: Readonly<Partial<Record<DType, readonly [number, number]>>> = {
  i32: [-2147483648, 2147483647],
  u32: [0, 4294967295],
  i8: [-128, 127],
  u8: [0, 255],
};

/** Elements of `dtype` that share one 32-bit word. */
function perWord(dtype: DType): number {
  return dtype === 'f16' || dtype === 'bf16' ? 2 : dtype === 'i8' || dtype === 'u8' || dtype === 'bool' ? 4 : 1;
}

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
    plan({ x }, { dtype }) {
      const count = x ? sizeOf(x.shape) : 0;
      const to = dtype as DType;
      return elementwiseDispatch(Math.ceil(count / perWord(to)), [
        u32(count),
        u32(dtypes.indexOf(x?.dtype ?? 'f32')),
        u32(dtypes.indexOf(to)),
      ]);
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
