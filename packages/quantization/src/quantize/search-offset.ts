import { clamp, f32, nearestInt } from './arithmetic.js';

/** A group as scale · code − minimum, minimum ≥ 0; codes are written to `codes`. */
export interface OffsetFit {
  readonly scale: number;
  readonly minimum: number;
}

/** Scales that are tried: (from + step · i + levels) / range of the group, i = 0 … tries. */
export interface OffsetSearch {
  /** Largest code. */
  readonly levels: number;
  readonly from: number;
  readonly step: number;
  readonly tries: number;
  /** Errors are weighted by their magnitude instead of their square. */
  readonly absolute: boolean;
}

/**
 * Scale and minimum of a group of a k-quant: starting from the range of the group (which includes 0), each trial rounds to codes and solves
 * the weighted least squares for scale and minimum; the one with the least weighted error stays.
 */
export function searchOffset(x: Float32Array, weights: Float32Array, codes: Uint8Array, search: OffsetSearch): OffsetFit {
  const { levels, absolute } = search;
  let [least, most] = [x[0], x[0]];
  let sumW = weights[0];
  let sumX = f32(sumW * x[0]);
  for (let e = 1; e < x.length; e++) {
    least = Math.min(least, x[e]);
    most = Math.max(most, x[e]);
    sumW = f32(sumW + weights[e]);
    sumX = f32(sumX + f32(weights[e] * x[e]));
  }
  if (least > 0) least = 0;
  if (most === least) {
    codes.fill(0);
    return { scale: 0, minimum: -least };
  }
  const range = f32(most - least);
  const round = (inverse: number, origin: number, out: Uint8Array): void => {
    for (let e = 0; e < x.length; e++) out[e] = clamp(nearestInt(f32(inverse * f32(x[e] - origin))), 0, levels);
  };
  const errorOf = (scale: number, minimum: number, trial: Uint8Array): number => {
    let sum = 0;
    for (let e = 0; e < x.length; e++) {
      const difference = f32(f32(f32(scale * trial[e]) + minimum) - x[e]);
      const error = absolute ? Math.abs(difference) : f32(difference * difference);
      sum = f32(sum + f32(weights[e] * error));
    }
    return sum;
  };
  const inverse = f32(levels / range);
  let scale = f32(1 / inverse);
  let minimum = least;
  round(inverse, least, codes);
  let best = errorOf(scale, minimum, codes);
  const trial = new Uint8Array(x.length);
  for (let index = 0; index <= search.tries; index++) {
    const numerator = f32(f32(f32(search.from) + f32(f32(search.step) * index)) + levels);
    // From the best minimum so far on.
    round(f32(numerator / f32(most - minimum)), minimum, trial);
    const fit = solve(x, weights, trial, sumW, sumX);
    if (!fit) continue;
    const error = errorOf(fit.scale, fit.minimum, trial);
    if (!(error < best)) continue;
    codes.set(trial);
    best = error;
    ({ scale, minimum } = fit);
  }
  return { scale, minimum: -minimum };
}

/** Weighted least squares of scale · code + minimum, minimum at most 0; undefined when all codes are the same. */
function solve(x: Float32Array, weights: Float32Array, codes: Uint8Array, sumW: number, sumX: number): OffsetFit | undefined {
  let [sumL, sumL2, sumXL] = [0, 0, 0];
  for (let e = 0; e < x.length; e++) {
    const product = f32(weights[e] * codes[e]);
    sumL = f32(sumL + product);
    sumL2 = f32(sumL2 + f32(product * codes[e]));
    sumXL = f32(sumXL + f32(product * x[e]));
  }
  const determinant = f32(f32(sumW * sumL2) - f32(sumL * sumL));
  if (!(determinant > 0)) return undefined;
  const minimum = f32(f32(f32(sumL2 * sumX) - f32(sumL * sumXL)) / determinant);
  if (minimum > 0) return { scale: f32(sumXL / sumL2), minimum: 0 };
  return { scale: f32(f32(f32(sumW * sumXL) - f32(sumX * sumL)) / determinant), minimum };
}
