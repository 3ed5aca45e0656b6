import { DTypeError } from './errors.js';
import { bf16ToNumber, f16ToNumber, numberToBf16, numberToF16 } from './half.js';

/** Element types. `f64` computes on the reference and native backends only; `i64` is storage. */
export const dtypes = ['f32', 'f64', 'f16', 'bf16', 'i32', 'u32', 'i64', 'i8', 'u8', 'bool'] as const;
export type DType = (typeof dtypes)[number];

/** What `Tensor.read()` returns for a dtype: f16 and bf16 come widened to Float32Array (Node 20 has no Float16Array). */
export type HostArray = Float32Array | Float64Array | Int32Array | Uint32Array | BigInt64Array | Int8Array | Uint8Array;
/** A host array whose elements are numbers; what reference kernels read and write. */
export type NumberArray = Exclude<HostArray, BigInt64Array>;

const bytesOf: Readonly<Record<DType, number>> = {
  f32: 4,
  f64: 8,
  f16: 2,
  bf16: 2,
  i32: 4,
  u32: 4,
  i64: 8,
  i8: 1,
  u8: 1,
  bool: 1,
};

/** Bytes of one element. */
export function byteSize(dtype: DType): number {
  return bytesOf[dtype];
}

export function isDType(value: unknown): value is DType {
  return typeof value === 'string' && Object.hasOwn(bytesOf, value);
}

export function isFloat(dtype: DType): boolean {
  return dtype === 'f32' || dtype === 'f64' || dtype === 'f16' || dtype === 'bf16';
}

/** Decodes little-endian element bytes into a fresh host array. `bytes.length` must be a multiple of the element size. */
export function decodeBytes(bytes: Uint8Array, dtype: DType): HostArray {
  const own = bytes.slice();
  switch (dtype) {
    case 'f32':
      return new Float32Array(own.buffer);
    case 'f64':
      return new Float64Array(own.buffer);
    case 'i32':
      return new Int32Array(own.buffer);
    case 'u32':
      return new Uint32Array(own.buffer);
    case 'i64':
      return new BigInt64Array(own.buffer);
    case 'i8':
      return new Int8Array(own.buffer);
    case 'u8':
    case 'bool':
      return own;
    case 'f16':
      return Float32Array.from(new Uint16Array(own.buffer), f16ToNumber);
    case 'bf16':
      return Float32Array.from(new Uint16Array(own.buffer), bf16ToNumber);
  }
}

/** Encodes host values as little-endian element bytes; f16 and bf16 round to nearest even. */
export function encodeValues(values: ArrayLike<number> | BigInt64Array, dtype: DType): Uint8Array {
  if (values instanceof BigInt64Array) {
    if (dtype !== 'i64') throw new DTypeError(`encodeValues: a BigInt64Array holds i64, not ${dtype}`);
    return new Uint8Array(values.slice().buffer);
  }
  switch (dtype) {
    case 'f32':
      return new Uint8Array(Float32Array.from(values).buffer);
    case 'f64':
      return new Uint8Array(Float64Array.from(values).buffer);
    case 'i32':
      return new Uint8Array(Int32Array.from(values).buffer);
    case 'u32':
      return new Uint8Array(Uint32Array.from(values).buffer);
    case 'i64':
      return new Uint8Array(BigInt64Array.from(Array.from(values, (value) => BigInt(value))).buffer);
    case 'i8':
      return new Uint8Array(Int8Array.from(values).buffer);
    case 'u8':
      return Uint8Array.from(values);
    case 'bool':
      return Uint8Array.from(values, (value) => (value ? 1 : 0));
    case 'f16':
      return new Uint8Array(Uint16Array.from(values, numberToF16).buffer);
    case 'bf16':
      return new Uint8Array(Uint16Array.from(values, numberToBf16).buffer);
  }
}
