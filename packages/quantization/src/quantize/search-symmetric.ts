import { clamp, f32, groupEpsilon, nearestInt, signedPeak } from './arithmetic.js';

/** Weighted sums of a group of 16 under codes: Σ x²·x·code and Σ x²·code². */
function sumsOf(x: Float32Array, codes: Int8Array): { xl: number; l2: number } {
  let [xl, l2] = [0, 0];
  for (let e = 0; e < x.length; e++) {
    const weight = f32(x[e] * x[e]);
    xl = f32(xl + f32(f32(weight * x[e]) * codes[e]));
    l2 = f32(l2 + f32(f32(weight * codes[e]) * codes[e]));
  }
  return { xl, l2 };
}

function round(x: Float32Array, inverse: number, half: number, codes: Int8Array): void {
  for (let e = 0; e < x.length; e++) codes[e] = clamp(nearestInt(f32(inverse * x[e])), -half, half - 1);
}

/**
 * Scale of a group as scale · code, −half ≤ code < half, weights x². Tries inverse scales −(half + i/10) / peak, i = −9 … 9, beginning
 * with 0. Codes are written biased by `half`; those of a group of zeros are 0.
 */
export function searchSymmetric(x: Float32Array, half: number, codes: Uint8Array): number {
  const peak = signedPeak(x);
  codes.fill(0);
  if (Math.abs(peak) < groupEpsilon) return 0;
  const trial = new Int8Array(x.length);
  const keep = (): void => {
    for (let e = 0; e < x.length; e++) codes[e] = trial[e] + half;
  };
  round(x, f32(-half / peak), half, trial);
  keep();
  const first = sumsOf(x, trial);
  let scale = first.l2 === 0 ? 0 : f32(first.xl / first.l2);
  let best = f32(scale * first.xl);
  for (let index = -9; index <= 9; index++) {
    if (index === 0) continue;
    round(x, f32(-f32(half + f32(f32(0.1) * index)) / peak), half, trial);
    const { xl, l2 } = sumsOf(x, trial);
    if (!(l2 > 0 && f32(xl * xl) > f32(best * l2))) continue;
    keep();
    scale = f32(xl / l2);
    best = f32(scale * xl);
  }
  return scale;
}

/**
 * The same for Q3_K: rounds once, then improves one code after the other against the rest of the group, for at most five sweeps.
 */
export function sweepSymmetric(x: Float32Array, half: number, codes: Uint8Array): number {
  const peak = signedPeak(x);
  codes.fill(0);
  if (Math.abs(peak) < groupEpsilon) return 0;
  const current = new Int8Array(x.length);
  round(x, f32(-half / peak), half, current);
  let { xl, l2 } = sumsOf(x, current);
  for (let sweep = 0; sweep < 5; sweep++) {
    let changed = false;
    for (let e = 0; e < x.length; e++) {
      const weight = f32(x[e] * x[e]);
      const weighted = f32(weight * x[e]);
      const code = current[e];
      const restXl = f32(xl - f32(weighted * code));
      if (!(restXl > 0)) continue;
      const restL2 = f32(l2 - f32(f32(weight * code) * code));
      const next = clamp(nearestInt(f32(f32(x[e] * restL2) / restXl)), -half, half - 1);
      if (next === code) continue;
      const nextXl = f32(restXl + f32(weighted * next));
      const nextL2 = f32(restL2 + f32(f32(weight * next) * next));
      const better = f32(f32(nextXl * nextXl) * l2) > f32(f32(xl * xl) * nextL2);
      if (!(nextL2 > 0 && better)) continue;
      current[e] = next;
      [xl, l2] = [nextXl, nextL2];
      changed = true;
    }
    if (!changed) break;
  }
  for (let e = 0; e < x.length; e++) codes[e] = current[e] + half;
  return l2 > 0 ? f32(xl / l2) : 0;
}
