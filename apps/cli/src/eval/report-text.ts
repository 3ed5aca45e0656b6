import { type Cell, type Payoff, type Ratio, type Speed } from '@filigree/evaluation';
import { percent, significant } from '../format/numbers.js';
import { groupBy } from '../group-by.js';

/** `0.93`, or `3.1234` for bits, of which four decimals count. */
export function scoreText({ task, score }: Cell): string {
  return task.reading === 'bits' ? score.mean.toFixed(4) : score.mean.toFixed(2);
}

export function intervalText({ task, interval }: Cell): string {
  const digits = task.reading === 'bits' ? 4 : 2;
  return `${interval.low.toFixed(digits)} – ${interval.high.toFixed(digits)}`;
}

/** `−0.12 (−0.20 – −0.05)`. */
export function differenceText({ task, difference }: Cell): string {
  if (!difference) return '–';
  const digits = task.reading === 'bits' ? 4 : 3;
  const signed = (value: number): string => `${value < 0 ? '−' : '+'}${Math.abs(value).toFixed(digits)}`;
  return `${signed(difference.mean)} (${signed(difference.low)} … ${signed(difference.high)})`;
}

export function ratioText(ratio: Ratio | undefined): string {
  return ratio ? `${ratio.mean.toFixed(2)} × (${ratio.low.toFixed(2)} … ${ratio.high.toFixed(2)})` : '–';
}

/** Bytes of the cache over those of dense attention. */
export function cacheText({ kvShare }: Cell): string {
  return kvShare === undefined ? '–' : percent(kvShare);
}

export function secondsText(seconds: number): string {
  return `${significant(seconds)} s`;
}

/** `12 min`, `40 s`. */
export function durationText(seconds: number): string {
  return seconds < 90 ? `${Math.ceil(seconds)} s` : `${Math.ceil(seconds / 60)} min`;
}

export function decodeText({ decodeMs }: Speed): string {
  return decodeMs === undefined ? '–' : `${significant(decodeMs)} ms`;
}

/** In words, where a method pays and where it loses. */
export function payoffText({ phase, fasterFrom, paysFrom, slowerAt, worse, longest }: Payoff): string[] {
  const what = phase === 'prefill' ? 'reading prompts' : 'decoding';
  const tokens = (length: number): string => `${length.toLocaleString('en-US')} tokens`;
  const lines: string[] = [];
  if (longest) lines.push(`${what}: ${ratioText(longest.ratio)} as fast as dense at ${tokens(longest.length)}`);
  if (fasterFrom === undefined) lines.push('at no measured length certainly faster than dense');
  else if (paysFrom === undefined)
    lines.push(
      `faster from ${tokens(fasterFrom)} on, but at no measured length there with quality shown to be kept on every informative task`,
    );
  else lines.push(`pays from ${tokens(paysFrom)} on: faster, at least one task kept, none worse`);
  if (slowerAt.length > 0) lines.push(`slower than dense at ${slowerAt.map(tokens).join(', ')}`);
  const byTask = groupBy(worse, ({ task }) => task.id);
  for (const [task, cells] of byTask)
    lines.push(`loses on ${task} at ${cells.map((cell) => `${tokens(cell.length)} (${differenceText(cell)})`).join(', ')}`);
  return lines;
}
