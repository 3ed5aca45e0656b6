/** How a matmul treats its input: as f32, or quantised to 8 bits in groups of 32. */
export const activationModes = ['none', 'q8-32'] as const;
export type ActivationMode = (typeof activationModes)[number];

/** Inputs that are quantised together. */
export const activationGroup = 32;

/**
 * `q8-32`, the definition on all backends: per 32 inputs d = amax / 127 in f32, q = RNE(x · f32(127 / amax)) in ±127. A group with
 * NaN or ∞ has d = NaN. Returns q·d, the values the product is taken with.
 */
export function quantizeActivations(x: ArrayLike<number>, start: number, out: Float64Array): void {
  for (let group = 0; group < out.length; group += activationGroup) {
    const size = Math.min(activationGroup, out.length - group);
    let amax = 0;
    let finite = true;
    for (let index = 0; index < size; index++) {
      const value = x[start + group + index];
      finite &&= Number.isFinite(value);
      amax = Math.max(amax, Math.abs(value));
    }
    const d = finite ? Math.fround(amax / 127) : NaN;
    let inverse = amax > 0 ? Math.fround(127 / amax) : 0;
    if (!Number.isFinite(inverse)) inverse = 0;
    for (let index = 0; index < size; index++) {
      const code = finite ? roundHalfEven(Math.fround(x[start + group + index] * inverse)) : 0;
      out[group + index] = code * d;
    }
  }
}

function roundHalfEven(value: number): number {
  const floor = Math.floor(value);
  const rest = value - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 !== 0) ? floor + 1 : floor;
}
