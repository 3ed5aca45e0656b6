import { methodLabel, denseRun, type MethodRun } from './record.js';
import { leastPairs, type Cell, type Ratio, type Speed } from './summary.js';

/** Where a method pays and where it loses, from what was measured. */
export interface Payoff {
  readonly label: string;
  /** What time is meant: that of reading prompts, or of decoding. */
  readonly phase: 'prefill' | 'decode';
  /** Shortest length from which on all measured lengths are faster than dense, the interval of the ratio included. */
  readonly fasterFrom: number | undefined;
  /** Shortest length from `fasterFrom` on where no informative task got worse and at least one was kept. */
  readonly paysFrom: number | undefined;
  /** Lengths where dense is faster, the interval included. */
  readonly slowerAt: readonly number[];
  /** Cells that lost quality. */
  readonly worse: readonly Cell[];
  /** The ratio at the longest length. */
  readonly longest: { readonly length: number; readonly ratio: Ratio } | undefined;
}

/** A line for every method but dense, in the phase in which it works: prefill, unless it only changes decoding. */
export function payoffsOf(
  cells: readonly Cell[],
  speeds: readonly Speed[],
  phaseOf: (method: MethodRun) => 'prefill' | 'decode' | 'both',
): Payoff[] {
  const labels = [...new Set(speeds.map(({ label }) => label))].filter((label) => label !== methodLabel(denseRun));
  return labels.map((label) => {
    const own = speeds.filter((speed) => speed.label === label).sort((a, b) => a.length - b.length);
    const phase = phaseOf(own[0].method) === 'decode' ? 'decode' : 'prefill';
    const ratios = own.flatMap(({ length, prefillRatio, decodeRatio }) => {
      const ratio = phase === 'decode' ? decodeRatio : prefillRatio;
      return ratio ? [{ length, ratio }] : [];
    });
    const lastNotFaster = ratios.findLastIndex(({ ratio }) => ratio.low <= 1 || ratio.pairs < leastPairs.times);
    const faster = ratios.slice(lastNotFaster + 1).map(({ length }) => length);
    const mine = cells.filter((cell) => cell.label === label);
    const verdicts = (length: number): string[] => mine.filter((cell) => cell.length === length).map(({ verdict }) => verdict);
    return {
      label,
      phase,
      fasterFrom: faster.at(0),
      paysFrom: faster.find((length) => verdicts(length).includes('kept') && !verdicts(length).includes('worse')),
      slowerAt: ratios.filter(({ ratio }) => ratio.high < 1 && ratio.pairs >= leastPairs.times).map(({ length }) => length),
      worse: mine.filter(({ verdict }) => verdict === 'worse'),
      longest: ratios.at(-1),
    };
  });
}
