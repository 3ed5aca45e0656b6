import { bytes, percent, rate, seconds } from '../format/numbers.js';
import { right, table } from '../format/table.js';
import { klDivergence } from '../quality/divergence.js';
import { decodeLogits, type PromptRun } from './prompt-run.js';

/** A row of the demo's table. */
export interface DemoRow extends Omit<PromptRun, 'logits'> {
  readonly attention: string;
  /** KL(dense‖this) of the distribution of the token after the prompt, in nats. */
  readonly kl: number;
}

/** Compares runs with the first of them, which attends densely. */
export function demoRows(runs: readonly (readonly [attention: string, run: PromptRun])[]): DemoRow[] {
  const [[, dense]] = runs;
  const truth = decodeLogits(dense.logits);
  return runs.map(([attention, { logits, ...rest }]) => ({
    attention,
    ...rest,
    kl: klDivergence(truth, decodeLogits(logits)),
  }));
}

export function demoTable(rows: readonly DemoRow[], title: (text: string) => string): string {
  const cells = rows.map((row) => [
    row.attention,
    seconds(row.firstTokenMs),
    rate(row.decodeTokens, row.decodeMs),
    percent(row.density),
    bytes(row.kvBytes),
    bytes(row.peakRssBytes),
    row.kl === 0 ? '0' : row.kl.toPrecision(3),
  ]);
  const columns = ['first token', 'decode tokens/s', 'density', 'KV cache', 'peak memory', 'KL to dense'].map(right);
  return table(['attention over the prompt', ...columns], cells, title);
}
