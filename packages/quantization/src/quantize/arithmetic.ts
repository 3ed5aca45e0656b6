/**
 * Arithmetic of the encoders: every operation is rounded to f32, in the order in which ggml's reference encoders compute, so that files
 * come out the same to the bit. Builds of ggml that contract products and sums to fused operations differ from it in last places.
 */
const words = new Float32Array(1);
const bits = new Uint32Array(words.buffer);

/** To f32. */
export const f32 = Math.fround;

/** Half-way cases to even, of |x| up to 2²²: adds 1.5 · 2²³ and reads the low bits of the sum. NaN gives 0. */
export function nearestInt(x: number): number {
  words[0] = x + 12582912;
  return (bits[0] & 0x7fffff) - 0x400000;
}

/** Half-way cases away from zero; exact for f32 values. */
export function roundAway(x: number): number {
  return x < 0 ? -Math.floor(0.5 - x) : Math.floor(x + 0.5);
}

/** As x86 converts: towards zero; NaN and what does not fit give −2³¹. */
export function toInt(x: number): number {
  return x > -2147483649 && x < 2147483648 ? Math.trunc(x) : -2147483648;
}

export function clamp(value: number, least: number, most: number): number {
  return value < least ? least : value > most ? most : value;
}

/** The reciprocal, 0 of 0. */
export function inverseOf(d: number): number {
  return d === 0 ? 0 : f32(1 / d);
}

/** Values smaller than this count as zero where a group is searched. */
export const groupEpsilon = /* @__PURE__ */ f32(1e-15);

/** The element of largest magnitude, the first of equal ones, with its sign; 0 when all are 0. */
export function signedPeak(x: Float32Array): number {
  let peak = 0;
  for (const value of x) if (Math.abs(value) > Math.abs(peak)) peak = value;
  return peak;
}
