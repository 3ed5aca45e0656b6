import { bf16ToNumber, f16ToNumber, numberToBf16, numberToF16 } from '@filigree/core-tensor';
import { describe, expect, it } from 'vitest';

const view = new DataView(new ArrayBuffer(4));

function f32OfBits(bits: number): number {
  view.setUint32(0, bits >>> 0);
  return view.getFloat32(0);
}

/** binary16 by another road: its bits moved into binary32 and rescaled by the difference of the exponent biases. */
function f16ByRescaling(bits: number): number {
  const magnitude = f32OfBits((bits & 0x7fff) << 13) * 2 ** 112;
  return bits & 0x8000 ? -magnitude : magnitude;
}

const isNaN16 = (bits: number): boolean => (bits & 0x7fff) > 0x7c00;
const isNaNBf16 = (bits: number): boolean => (bits & 0x7fff) > 0x7f80;

/** Patterns for which `holds` is false; the whole space is small enough to try. */
function patternsWhere(holds: (bits: number) => boolean): number[] {
  return Array.from({ length: 65536 }, (_, bits) => bits).filter((bits) => !holds(bits));
}

describe('f16', () => {
  it('decodes every finite pattern to its value', () => {
    const finite = (bits: number): boolean => (bits & 0x7c00) !== 0x7c00;
    expect(patternsWhere((bits) => !finite(bits) || Object.is(f16ToNumber(bits), f16ByRescaling(bits)))).toEqual([]);
  });

  it('comes back as the same bits from every pattern that is not NaN', () => {
    expect(patternsWhere((bits) => isNaN16(bits) || numberToF16(f16ToNumber(bits)) === bits)).toEqual([]);
  });

  it('decodes every NaN pattern to NaN, and NaN encodes as a NaN', () => {
    expect(patternsWhere((bits) => Number.isNaN(f16ToNumber(bits)) === isNaN16(bits))).toEqual([]);
    expect(isNaN16(numberToF16(NaN))).toBe(true);
  });

  it('rounds everything between two neighbours to the nearer one, and halfway to the even one', () => {
    const wrong: number[] = [];
    for (let bits = 0; bits < 0x7bff; bits++) {
      const [low, high] = [f16ToNumber(bits), f16ToNumber(bits + 1)];
      const middle = (low + high) / 2;
      const nudge = (high - low) * 2 ** -30;
      for (const sign of [0, 0x8000]) {
        const encode = (value: number): number => numberToF16(sign ? -value : value);
        const right =
          encode(middle - nudge) === (sign | bits) &&
          encode(middle + nudge) === (sign | (bits + 1)) &&
          encode(middle) === (sign | (bits + (bits & 1)));
        if (!right) wrong.push(sign | bits);
      }
    }
    expect(wrong).toEqual([]);
  });

  it('overflows to infinity from halfway past the largest value on', () => {
    expect(numberToF16(65519.999)).toBe(0x7bff);
    expect(numberToF16(65520)).toBe(0x7c00);
    expect(numberToF16(-1e300)).toBe(0xfc00);
    expect(numberToF16(Infinity)).toBe(0x7c00);
  });

  it('keeps the sign of zero, and of what underflows to it', () => {
    expect(numberToF16(-0)).toBe(0x8000);
    expect(numberToF16(-1e-300)).toBe(0x8000);
    expect(numberToF16(2 ** -25)).toBe(0);
  });
});

describe('bf16', () => {
  it('decodes every pattern to the f32 that has these upper bits', () => {
    expect(patternsWhere((bits) => Object.is(bf16ToNumber(bits), f32OfBits(bits << 16)))).toEqual([]);
  });

  it('comes back as the same bits from every pattern that is not NaN', () => {
    expect(patternsWhere((bits) => isNaNBf16(bits) || numberToBf16(bf16ToNumber(bits)) === bits)).toEqual([]);
  });

  it('encodes every NaN as a NaN', () => {
    expect(patternsWhere((bits) => !isNaNBf16(bits) || isNaNBf16(numberToBf16(bf16ToNumber(bits))))).toEqual([]);
    // A signalling NaN whose payload lies in the bits that are cut off.
    expect(isNaNBf16(numberToBf16(f32OfBits(0x7f800001)))).toBe(true);
  });

  it('rounds every f32 next to a midpoint to the nearer neighbour, and the midpoint to the even one', () => {
    const wrong: number[] = [];
    for (let bits = 0; bits < 0x7f80; bits++) {
      const middle = ((bits << 16) | 0x8000) >>> 0;
      for (const sign of [0, 0x8000]) {
        const encode = (pattern: number): number => numberToBf16(f32OfBits(pattern | (sign << 16)));
        const right =
          encode(middle - 1) === (sign | bits) &&
          encode(middle + 1) === (sign | (bits + 1)) &&
          encode(middle) === (sign | (bits + (bits & 1)));
        if (!right) wrong.push(sign | bits);
      }
    }
    expect(wrong).toEqual([]);
  });
});
