import { InvalidArgumentError } from 'commander';

/** A parser for whole numbers in a range; what is wrong is named together with the option. */
export function wholeNumber(least: number, most = Number.MAX_SAFE_INTEGER): (text: string) => number {
  const range = most === Number.MAX_SAFE_INTEGER ? `${least} or more` : `from ${least} to ${most}`;
  return (text) => {
    const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
    if (!(value >= least && value <= most)) throw new InvalidArgumentError(`A whole number ${range} is expected.`);
    return value;
  };
}

/** A parser for numbers in a range, ends included unless `above` says that the lower is not. */
export function numberBetween(least: number, most: number, { above = false } = {}): (text: string) => number {
  const start = above ? `above ${least}` : `${least} or more`;
  const range = most === Infinity ? start : above ? `${start}, at most ${most}` : `from ${least} to ${most}`;
  return (text) => {
    const value = /^[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?$/i.test(text) ? Number(text) : Number.NaN;
    if (!(Number.isFinite(value) && value <= most && (above ? value > least : value >= least)))
      throw new InvalidArgumentError(`A number ${range} is expected.`);
    return value;
  };
}
