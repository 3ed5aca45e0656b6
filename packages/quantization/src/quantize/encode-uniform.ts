import { f32, inverseOf, roundAway, signedPeak, toInt } from './arithmetic.js';
import { putFifthBits, putHalf, putNibbles, type BlockEncoder } from './encode-block.js';

/** Blocks of 32 with a scale: the weight of largest magnitude gets the lowest code, so that the sign of d is that of −peak. */
function symmetric(bits: 4 | 5): BlockEncoder {
  const half = 2 ** (bits - 1);
  return (x, out, at) => {
    const d = f32(signedPeak(x) / -half);
    const inverse = inverseOf(d);
    const codes = Array.from(x, (value) => Math.min(2 * half - 1, toInt(f32(f32(value * inverse) + half + 0.5)) & 255));
    putHalf(out, at, d);
    if (bits === 5) putFifthBits(out, at + 2, codes);
    putNibbles(out, at + (bits === 5 ? 6 : 2), codes);
  };
}

/** Blocks of 32 with a scale and the smallest weight. */
function offset(bits: 4 | 5): BlockEncoder {
  const most = 2 ** bits - 1;
  return (x, out, at) => {
    const least = x.reduce((a, b) => (b < a ? b : a));
    const range = f32(x.reduce((a, b) => (b > a ? b : a)) - least);
    const d = f32(range / most);
    const inverse = inverseOf(d);
    const codes = Array.from(x, (value) => Math.min(most, toInt(f32(f32(f32(value - least) * inverse) + 0.5)) & 255));
    putHalf(out, at, d);
    putHalf(out, at + 2, least);
    if (bits === 5) putFifthBits(out, at + 4, codes);
    putNibbles(out, at + (bits === 5 ? 8 : 4), codes);
  };
}

/** Codes are made with the scale before it is rounded to half precision. */
export const uniformEncoders = {
  Q4_0: symmetric(4),
  Q4_1: offset(4),
  Q5_0: symmetric(5),
  Q5_1: offset(5),
  Q8_0(x, out, at) {
    const d = f32(Math.abs(signedPeak(x)) / 127);
    const inverse = inverseOf(d);
    putHalf(out, at, d);
    for (let e = 0; e < 32; e++) out[at + 2 + e] = toInt(roundAway(f32(x[e] * inverse))) & 255;
  },
} satisfies Record<string, BlockEncoder>;
