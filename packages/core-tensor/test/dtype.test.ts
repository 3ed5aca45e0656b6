import { byteSize, decodeBytes, DTypeError, dtypes, encodeValues, isDType, isFloat } from '@filigree/core-tensor';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';

/** Values that each dtype holds exactly. */
const exactValues = {
  f32: fc.float(),
  f64: fc.double(),
  f16: fc.integer({ min: -2048, max: 2048 }),
  bf16: fc.integer({ min: -256, max: 256 }),
  i32: fc.integer({ min: -2147483648, max: 2147483647 }),
  u32: fc.integer({ min: 0, max: 4294967295 }),
  i64: fc.maxSafeInteger(),
  i8: fc.integer({ min: -128, max: 127 }),
  u8: fc.integer({ min: 0, max: 255 }),
  bool: fc.constantFrom(0, 1),
};

describe('element bytes', () => {
  for (const dtype of dtypes) {
    it(`hold ${dtype} values exactly`, () => {
      fc.assert(
        fc.property(fc.array(exactValues[dtype], { maxLength: 20 }), (values) => {
          const bytes = encodeValues(values, dtype);
          expect(bytes.length).toBe(values.length * byteSize(dtype));
          expect(Array.from<number | bigint>(decodeBytes(bytes, dtype)).map(Number)).toEqual(values);
        }),
      );
    });
  }

  it('decode from a view at an odd address', () => {
    const padded = Uint8Array.of(255, ...encodeValues([1.5, -2], 'f32'));
    expect(decodeBytes(padded.subarray(1), 'f32')).toEqual(Float32Array.of(1.5, -2));
  });

  it('are little-endian', () => {
    expect([...encodeValues([0x01020304], 'i32')]).toEqual([4, 3, 2, 1]);
  });

  it('do not share memory with what they were decoded from', () => {
    const bytes = Uint8Array.of(1, 2, 3);
    const decoded = decodeBytes(bytes, 'u8');
    bytes[0] = 9;
    expect(decoded[0]).toBe(1);
  });

  it('of a BigInt64Array are i64 and nothing else', () => {
    const large = BigInt64Array.of(2n ** 62n, -1n);
    expect(decodeBytes(encodeValues(large, 'i64'), 'i64')).toEqual(large);
    expect(() => encodeValues(large, 'i32')).toThrow(DTypeError);
  });

  it('of bool are 1 for everything but zero', () => {
    expect([...encodeValues([0, 2, -0.5], 'bool')]).toEqual([0, 1, 1]);
  });
});

describe('dtype names', () => {
  it('are recognised, and nothing else is', () => {
    expect(dtypes.every(isDType)).toBe(true);
    for (const other of ['float', 'F32', '', 'toString', 4, null, undefined]) expect(isDType(other)).toBe(false);
  });

  it('say which are floats', () => {
    expect(dtypes.filter(isFloat)).toEqual(['f32', 'f64', 'f16', 'bf16']);
  });
});
