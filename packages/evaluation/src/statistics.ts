import { Random } from '@filigree/core-tensor';

export interface Interval {
  readonly low: number;
  readonly high: number;
}

export interface Mean {
  readonly mean: number;
  /** Standard error: s/√n; 0 for fewer than two values. */
  readonly stderr: number;
  readonly count: number;
}

export function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

export function meanOf(values: readonly number[]): Mean {
  const average = mean(values);
  const squares = values.reduce((sum, value) => sum + (value - average) ** 2, 0);
  const stderr = values.length < 2 ? 0 : Math.sqrt(squares / (values.length - 1) / values.length);
  return { mean: average, stderr, count: values.length };
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** 95 % interval of a share: sound for few trials, and where all or none succeed. Wilson, JASA 22, 1927. */
export function wilson(successes: number, trials: number): Interval {
  if (trials === 0) return { low: 0, high: 1 };
  const z = 1.959964;
  const share = successes / trials;
  const scale = 1 + z ** 2 / trials;
  const center = (share + z ** 2 / (2 * trials)) / scale;
  const half = (z / scale) * Math.sqrt((share * (1 - share)) / trials + z ** 2 / (4 * trials ** 2));
  return { low: Math.max(0, center - half), high: Math.min(1, center + half) };
}

/** Resamples of a bootstrap. */
export const resamples = 2000;

/**
 * 95 % interval of the mean of paired differences, which come in groups: answers about one context are alike. Groups are drawn with
 * replacement, and then values inside of each. The same seed gives the same interval.
 *
 * Efron, "Bootstrap Methods", Annals of Statistics 7, 1979.
 */
export function bootstrap(groups: readonly (readonly number[])[], seed = 0): Interval {
  const filled = groups.filter(({ length }) => length > 0);
  if (filled.length === 0) return { low: Number.NaN, high: Number.NaN };
  const random = new Random(seed);
  const pick = <T>(items: readonly T[]): T => items[random.nextInt(items.length)];
  const means = Array.from({ length: resamples }, () => {
    let [sum, count] = [0, 0];
    for (let draw = 0; draw < filled.length; draw++) {
      const group = pick(filled);
      for (let value = 0; value < group.length; value++) sum += pick(group);
      count += group.length;
    }
    return sum / count;
  }).sort((a, b) => a - b);
  return { low: means[Math.floor(0.025 * resamples)], high: means[Math.ceil(0.975 * resamples) - 1] };
}
