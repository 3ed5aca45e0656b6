import { fieldOffsets } from '../gguf/block-fields.js';
import { f32, inverseOf, roundAway, signedPeak, toInt } from './arithmetic.js';
import { putFifthBits, putHalf, putNibbles, type BlockEncoder } from './encode-block.js';

/** Blocks of 32 with a scale: the weight of largest magnitude gets the lowest code, so that the sign of d is that of −peak. */
function symmetric(type: 'Q4_0' | 'Q5_0', bits: 4 | 5): BlockEncoder {
  const field = fieldOffsets[type];
  const half = 2 ** (bits - 1);
  return (x, out, at) => {
    const d = f32(signedPeak(x) / -half);
    const inverse = inverseOf(d);
    const codes = Array.from(x, (value) => Math.min(2 * half - 1, toInt(f32(f32(value * inverse) + half + 0.5)) & 255));
    putHalf(out, at + field.d, d);
    if ('qh' in field) putFifthBits(out, at + field.qh, codes);
    putNibbles(out, at + field.qs, codes);
  };
}

/** Blocks of 32 with a scale and the smallest weight. */
function offset(type: 'Q4_1' | 'Q5_1', bits: 4 | 5): BlockEncoder {
  const field = fieldOffsets[type];
  const most = 2 ** bits - 1;
  return (x, out, at) => {
    const least = x.reduce((a, b) => (b < a ? b : a));
    const range = f32(x.reduce((a, b) => (b > a ? b : a)) - least);
    const d = f32(range / most);
    const inverse = inverseOf(d);
    const codes = Array.from(x, (value) => Math.min(most, toInt(f32(f32(f32(value - least) * inverse) + 0.5)) & 255));
    putHalf(out, at + field.d, d);
    putHalf(out, at + field.m, least);
    if ('qh' in field) putFifthBits(out, at + field.qh, codes);
    putNibbles(out, at + field.qs, codes);
  };
}

/** Codes are made with the scale before it is rounded to half precision. */
export const uniformEncoders = {
  Q4_0: /* @__PURE__ */ symmetric('Q4_0', 4),
  Q4_1: /* @__PURE__ */ offset('Q4_1', 4),
  Q5_0: /* @__PURE__ */ symmetric('Q5_0', 5),
  Q5_1: /* @__PURE__ */ offset('Q5_1', 5),
  Q8_0(x, out, at) {
    const field = fieldOffsets.Q8_0;
    const d = f32(Math.abs(signedPeak(x)) / 127);
    const inverse = inverseOf(d);
    putHalf(out, at + field.d, d);
    for (let e = 0; e < 32; e++) out[at + field.qs + e] = toInt(roundAway(f32(x[e] * inverse))) & 255;
  },
} satisfies Record<string, BlockEncoder>;
