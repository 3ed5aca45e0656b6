import { groupedLevel } from './levels.js';
import { isInteger, type GroupedType } from './types.js';

/** Bytes before the codes. */
export function codesAt(type: GroupedType): number {
  return isInteger(type) ? 8 : 4;
}

/** Code e of the block at byte `at`. */
export function groupedCode(type: GroupedType, bytes: Uint8Array, at: number, e: number): number {
  const part = at + codesAt(type) + 4 * type.bits * (e >> 5);
  const inner = e & 31;
  switch (type.bits) {
    case 2:
      return (bytes[part + (inner >> 2)] >> (2 * (inner & 3))) & 3;
    case 3:
      return (
        ((bytes[part + (inner >> 2)] >> (2 * (inner & 3))) & 3) | (((bytes[part + 8 + (inner >> 3)] >> (inner & 7)) & 1) << 2)
      );
    case 4:
      return inner < 16 ? bytes[part + inner] & 15 : bytes[part + inner - 16] >> 4;
    case 8:
      return bytes[part + inner];
  }
}

/** Puts code e into the zeroed block at byte `at`. */
export function putGroupedCode(type: GroupedType, bytes: Uint8Array, at: number, e: number, code: number): void {
  const part = at + codesAt(type) + 4 * type.bits * (e >> 5);
  const inner = e & 31;
  switch (type.bits) {
    case 2:
      bytes[part + (inner >> 2)] |= code << (2 * (inner & 3));
      break;
    case 3:
      bytes[part + (inner >> 2)] |= (code & 3) << (2 * (inner & 3));
      bytes[part + 8 + (inner >> 3)] |= (code >> 2) << (inner & 7);
      break;
    case 4:
      bytes[part + (inner & 15)] |= inner < 16 ? code : code << 4;
      break;
    case 8:
      bytes[part + inner] = code;
  }
}

/** Scale and offset of the block at byte `at`. */
export function groupedFactors(type: GroupedType, bytes: Uint8Array, at: number): { scale: number; offset: number } {
  const view = new DataView(bytes.buffer, bytes.byteOffset + at, codesAt(type));
  return { scale: view.getFloat32(0, true), offset: isInteger(type) ? view.getFloat32(4, true) : 0 };
}

/** Decodes the block at byte `at`. */
export function decodeGroup(
  type: GroupedType,
  bytes: Uint8Array,
  at: number,
  out: Float64Array | Float32Array,
  to: number,
): void {
  const { scale, offset } = groupedFactors(type, bytes, at);
  for (let e = 0; e < type.elements; e++)
    out[to + e] = scale * groupedLevel(type.kind, groupedCode(type, bytes, at, e)) + offset;
}
