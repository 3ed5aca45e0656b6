import { decodeBytes, type DType, type NumberArray } from '../dtype.js';
import { DTypeError } from '../errors.js';
import type { HostTensor } from '../op.js';
import { sizeOf, type Shape } from '../shape.js';

/** Element bytes as the numbers a reference kernel reads. */
export function hostTensor(bytes: Uint8Array, shape: Shape, dtype: DType): HostTensor {
  const data = decodeBytes(bytes, dtype);
  if (data instanceof BigInt64Array) throw new DTypeError('i64 is a storage type: cast to i32 or f64 before computing with it');
  return { shape, dtype, data };
}

/** A zero-filled result for a reference kernel to write. */
export function zeroHostTensor(shape: Shape, dtype: DType): HostTensor {
  return { shape, dtype, data: numberArray(dtype, sizeOf(shape)) };
}

/** The array type in which a reference kernel holds `dtype`. */
export function numberArray(dtype: DType, length: number): NumberArray {
  switch (dtype) {
    case 'f32':
    case 'f16':
    case 'bf16':
      return new Float32Array(length);
    case 'f64':
      return new Float64Array(length);
    case 'i32':
      return new Int32Array(length);
    case 'u32':
      return new Uint32Array(length);
    case 'i8':
      return new Int8Array(length);
    case 'u8':
    case 'bool':
      return new Uint8Array(length);
    case 'i64':
      throw new DTypeError('i64 is a storage type: no op produces it');
  }
}
