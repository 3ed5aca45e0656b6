import type { HeaderCursor } from './header-cursor.js';
import {
  ggufMaxBoxedElements,
  ggufMaxNesting,
  ggufNumberArrays,
  ggufValueBytes,
  ggufValueTypes,
  type GgufArray,
  type GgufValue,
  type GgufValueType,
} from './value.js';

/** A metadata value: u32 type, then the value. */
export function readGgufValue(cursor: HeaderCursor): GgufValue {
  const type = readType(cursor);
  switch (type) {
    case 'u8':
    case 'i8':
    case 'u16':
    case 'i16':
    case 'u32':
    case 'i32':
    case 'f32':
    case 'f64':
      return { type, value: cursor[type]() };
    case 'u64':
    case 'i64':
      return { type, value: cursor[type]() };
    case 'bool':
      return { type, value: cursor.bool() };
    case 'string':
      return { type, value: cursor.string() };
    case 'array':
      return { type, value: readArray(cursor, 1) };
  }
}

function readType(cursor: HeaderCursor): GgufValueType {
  const id = cursor.u32();
  const type = ggufValueTypes.at(id);
  if (type === undefined) throw cursor.fail(`unknown value type ${id}; known are 0 to ${ggufValueTypes.length - 1}`);
  return type;
}

/** An array: u32 element type, u64 count, then the elements without padding. */
function readArray(cursor: HeaderCursor, depth: number): GgufArray {
  if (depth > ggufMaxNesting) throw cursor.fail(`arrays are nested more than ${ggufMaxNesting} deep`);
  const elementType = readType(cursor);
  const count = cursor.count('array length', ggufValueBytes[elementType]);
  // All at once, so that a long array is not parsed again for each piece of it that arrives.
  cursor.need(count * ggufValueBytes[elementType]);
  if (!(elementType in ggufNumberArrays)) {
    cursor.boxedElements += count;
    if (cursor.boxedElements > ggufMaxBoxedElements)
      throw cursor.fail(`more than ${ggufMaxBoxedElements} strings, bools and arrays in the arrays of one file`);
  }
  switch (elementType) {
    case 'bool':
      return { elementType, values: Array.from({ length: count }, () => cursor.bool()) };
    case 'string':
      return { elementType, values: Array.from({ length: count }, () => cursor.string()) };
    case 'array':
      return { elementType, values: Array.from({ length: count }, () => readArray(cursor, depth + 1)) };
    default: {
      const values = new ggufNumberArrays[elementType](cursor.take(count * ggufValueBytes[elementType]).buffer);
      // The constructor was chosen by elementType; the compiler does not follow that through the table.
      return { elementType, values } as GgufArray;
    }
  }
}
