import { groupedType, isInteger, type GroupedType } from '../grouped/types.js';
import { ggufLayout } from './types.js';

/** How the bytes of a field are read; all little-endian. `e8m0` is a power of two, `ue4m3` an unsigned FP8, both one byte. */
export type FieldDtype = 'f32' | 'f16' | 'bf16' | 'e8m0' | 'ue4m3' | 'i8' | 'u8' | 'u16' | 'u32';

/** Bytes of one value. */
const dtypeBytes: Readonly<Record<FieldDtype, number>> = {
  f32: 4,
  f16: 2,
  bf16: 2,
  e8m0: 1,
  ue4m3: 1,
  i8: 1,
  u8: 1,
  u16: 2,
  u32: 4,
};

/** A field of a block, named as ggml names it, save that its `e` of MXFP4 is `exponent`. */
export interface BlockField {
  readonly name: string;
  /** Of its first byte, from the start of the block. */
  readonly offset: number;
  readonly bytes: number;
  readonly dtype: FieldDtype;
  /** Values of `dtype` in it. */
  readonly count: number;
}

/**
 * The fields of a block of each type in the order in which they lie, without gaps: dtype and number of values. Every offset in this package
 * comes from here. Source: ggml-org/ggml, src/ggml-common.h.
 */
const fields = {
  F32: { value: ['f32', 1] },
  F16: { value: ['f16', 1] },
  BF16: { value: ['bf16', 1] },
  Q4_0: { d: ['f16', 1], qs: ['u8', 16] },
  Q4_1: { d: ['f16', 1], m: ['f16', 1], qs: ['u8', 16] },
  Q5_0: { d: ['f16', 1], qh: ['u32', 1], qs: ['u8', 16] },
  Q5_1: { d: ['f16', 1], m: ['f16', 1], qh: ['u32', 1], qs: ['u8', 16] },
  Q8_0: { d: ['f16', 1], qs: ['i8', 32] },
  Q2_K: { scales: ['u8', 16], qs: ['u8', 64], d: ['f16', 1], dmin: ['f16', 1] },
  Q3_K: { hmask: ['u8', 32], qs: ['u8', 64], scales: ['u8', 12], d: ['f16', 1] },
  Q4_K: { d: ['f16', 1], dmin: ['f16', 1], scales: ['u8', 12], qs: ['u8', 128] },
  Q5_K: { d: ['f16', 1], dmin: ['f16', 1], scales: ['u8', 12], qh: ['u8', 32], qs: ['u8', 128] },
  Q6_K: { ql: ['u8', 128], qh: ['u8', 64], scales: ['i8', 16], d: ['f16', 1] },
  IQ4_NL: { d: ['f16', 1], qs: ['u8', 16] },
  IQ4_XS: { d: ['f16', 1], scales_h: ['u16', 1], scales_l: ['u8', 4], qs: ['u8', 128] },
  MXFP4: { exponent: ['e8m0', 1], qs: ['u8', 16] },
  NVFP4: { d: ['ue4m3', 4], qs: ['u8', 32] },
  TQ1_0: { qs: ['u8', 48], qh: ['u8', 4], d: ['f16', 1] },
  TQ2_0: { qs: ['u8', 64], d: ['f16', 1] },
  Q1_0: { d: ['f16', 1], qs: ['u8', 16] },
  Q2_0: { d: ['f16', 1], qs: ['u8', 16] },
} as const satisfies Record<string, Record<string, readonly [FieldDtype, number]>>;

/** A type whose blocks have fields that are known: every one whose weights can be decoded. */
export type BlockType = keyof typeof fields;

/** Byte offsets in a block by the name of the field. */
export type FieldOffsets<T extends BlockType> = Readonly<Record<keyof (typeof fields)[T], number>>;

function placed(layout: Readonly<Record<string, readonly [FieldDtype, number]>>): readonly BlockField[] {
  let offset = 0;
  return Object.entries(layout).map(([name, [dtype, count]]) => {
    const field = { name, offset, bytes: count * dtypeBytes[dtype], dtype, count };
    offset += field.bytes;
    return field;
  });
}

/** Where the fields of a block begin, by type and name: `fieldOffsets.Q4_1.m` is 2. */
export const fieldOffsets = /* @__PURE__ */ Object.fromEntries(
  /* @__PURE__ */ Object.entries(fields).map(([type, layout]) => [
    type,
    Object.fromEntries(placed(layout).map(({ name, offset }) => [name, offset])),
  ]),
) as { readonly [T in BlockType]: FieldOffsets<T> };

/** The fields of a block of the type in their order; throws an OptionError with the list of known types for any other. */
export function blockFields(type: string): readonly BlockField[] {
  const grouped = groupedType(type);
  return placed(grouped ? groupedFields(grouped) : fields[ggufLayout(type).name as BlockType]);
}

function groupedFields(type: GroupedType): Record<string, readonly [FieldDtype, number]> {
  const codes = ['u8', (type.elements * type.bits) / 8] as const;
  return isInteger(type) ? { scale: ['f32', 1], offset: ['f32', 1], codes } : { scale: ['f32', 1], codes };
}
