/** JavaScript form of each scalar metadata type. */
interface Scalars {
  u8: number;
  i8: number;
  u16: number;
  i16: number;
  u32: number;
  i32: number;
  f32: number;
  bool: boolean;
  string: string;
  u64: bigint;
  i64: bigint;
  f64: number;
}

/** JavaScript form of an array of each metadata type. */
interface Arrays {
  u8: Uint8Array;
  i8: Int8Array;
  u16: Uint16Array;
  i16: Int16Array;
  u32: Uint32Array;
  i32: Int32Array;
  f32: Float32Array;
  bool: readonly boolean[];
  string: readonly string[];
  array: readonly GgufArray[];
  u64: BigUint64Array;
  i64: BigInt64Array;
  f64: Float64Array;
}

/** An array of the metadata, of one element type; arrays may hold arrays. */
export type GgufArray = {
  [T in keyof Arrays]: { readonly elementType: T; readonly values: Arrays[T] };
}[keyof Arrays];

/** A metadata value with the type it has in the file. */
export type GgufValue =
  | { [T in keyof Scalars]: { readonly type: T; readonly value: Scalars[T] } }[keyof Scalars]
  | { readonly type: 'array'; readonly value: GgufArray };

/** The metadata types in the order of their ids in the file: `u8` is 0, `f64` is 12. */
export const ggufValueTypes = [
  'u8',
  'i8',
  'u16',
  'i16',
  'u32',
  'i32',
  'f32',
  'bool',
  'string',
  'array',
  'u64',
  'i64',
  'f64',
] as const satisfies readonly (keyof Arrays)[];

/** Name of a metadata type. */
export type GgufValueType = (typeof ggufValueTypes)[number];

/** Fewest bytes a value of the type takes in the file; exact except for strings (length) and arrays (type and length). */
export const ggufValueBytes: Readonly<Record<GgufValueType, number>> = {
  u8: 1,
  i8: 1,
  u16: 2,
  i16: 2,
  u32: 4,
  i32: 4,
  f32: 4,
  bool: 1,
  string: 8,
  array: 12,
  u64: 8,
  i64: 8,
  f64: 8,
};

/** Constructors of the arrays that are plain numbers in the file. */
export const ggufNumberArrays = {
  u8: Uint8Array,
  i8: Int8Array,
  u16: Uint16Array,
  i16: Int16Array,
  u32: Uint32Array,
  i32: Int32Array,
  f32: Float32Array,
  u64: BigUint64Array,
  i64: BigInt64Array,
  f64: Float64Array,
} as const;

/** Arrays may nest this deep; deeper ones are refused when read and when written. */
export const ggufMaxNesting = 4;

/**
 * Strings, bools and inner arrays that all arrays of a file may hold together. Each takes many times the bytes in memory that it
 * takes in a file; the largest vocabularies with their merges have under a million.
 */
export const ggufMaxBoxedElements = 2 ** 22;
