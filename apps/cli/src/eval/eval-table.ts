import type { Cell, Payoff, Speed } from '@filigree/evaluation';
import { percent } from '../format/numbers.js';
import { right, table } from '../format/table.js';
import {
  cacheText,
  differenceText,
  intervalText,
  payoffText,
  ratioText,
  scoreText,
  decodeText,
  secondsText,
} from './report-text.js';

/** What was measured, for a terminal: scores, times, and what follows. */
export function evalText(
  { cells, speeds, payoffs }: { cells: readonly Cell[]; speeds: readonly Speed[]; payoffs: readonly Payoff[] },
  bold: (text: string) => string,
): string {
  const parts = [
    table(
      [
        'task',
        right('tokens'),
        'method',
        right('answers'),
        right('score'),
        '95 %',
        'difference to dense',
        'verdict',
        right('cache'),
      ],
      cells.map((cell) => [
        cell.task.id,
        String(cell.length),
        cell.label,
        String(cell.score.count),
        scoreText(cell),
        intervalText(cell),
        differenceText(cell),
        cell.verdict,
        cacheText(cell),
      ]),
      bold,
    ),
    table(
      [right('tokens'), 'method', right('density'), right('prompt'), 'against dense', right('token'), 'against dense'],
      speeds.map((speed) => [
        String(speed.length),
        speed.label,
        percent(speed.density),
        secondsText(speed.prefillSeconds),
        ratioText(speed.prefillRatio),
        decodeText(speed),
        ratioText(speed.decodeRatio),
      ]),
      bold,
    ),
    ...payoffs.map(
      (payoff) =>
        `${bold(payoff.label)}\n${payoffText(payoff)
          .map((line) => `  ${line}`)
          .join('\n')}`,
    ),
  ];
  return parts.join('\n\n');
}
