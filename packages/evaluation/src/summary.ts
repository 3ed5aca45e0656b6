import { denseRun, methodLabel, scoreOf, type EvaluationRecord, type MethodRun } from './record.js';
import { bootstrap, mean, median, meanOf, wilson, type Interval, type Mean } from './statistics.js';
import { informativeFrom, type Task } from './task.js';

/** What may be said of a method beside dense attention. */
export type Verdict =
  /** Dense attention itself. */
  | 'baseline'
  /** Dense attention cannot do the task here: no claim. */
  | 'not informative'
  /** The interval of the difference to dense is above what may be lost. */
  | 'kept'
  /** All of the interval is a loss, and some of it more than may be lost. */
  | 'worse'
  /** The interval allows both: more answers are needed. */
  | 'undecided';

/** What may be lost for a method to have kept quality: two points of a score, a hundredth of a bit per token. */
export const margins = { score: 0.02, bits: 0.01 } as const;

/** Pairs without which an interval supports no claim: of few, a bootstrap has too little to draw from. */
export const leastPairs = { answers: 10, times: 5 } as const;

/** A method on a task at a length. */
export interface Cell {
  readonly task: Task;
  readonly method: MethodRun;
  readonly label: string;
  readonly length: number;
  readonly contexts: number;
  readonly score: Mean;
  /** 95 %: Wilson's for scores, from the standard error for bits. */
  readonly interval: Interval;
  /** Mean natural log-probability of the tokens of right answers. */
  readonly logProb: number;
  /** Method less dense on the same questions, with the paired bootstrap interval; undefined for dense and without pairs. */
  readonly difference: (Interval & { readonly mean: number; readonly pairs: number }) | undefined;
  readonly verdict: Verdict;
  readonly density: number;
  /** Mean bytes of contexts over those of dense attention; undefined where they were not counted. */
  readonly kvShare: number | undefined;
}

/** A method at a length, over all tasks: its time beside that of dense attention on the same contexts. */
export interface Speed {
  readonly method: MethodRun;
  readonly label: string;
  readonly length: number;
  readonly contexts: number;
  /** Median seconds. */
  readonly prefillSeconds: number;
  /** Median milliseconds of a decode step. */
  readonly decodeMs: number | undefined;
  /** Geometric mean of dense time / time, and its interval: above 1 is faster. */
  readonly prefillRatio: Ratio | undefined;
  readonly decodeRatio: Ratio | undefined;
  readonly density: number;
}

export interface Ratio extends Interval {
  readonly mean: number;
  readonly pairs: number;
}

/** Records by key parts, in the order of their first appearance. */
function grouped(
  records: readonly EvaluationRecord[],
  keyOf: (record: EvaluationRecord) => string,
): Map<string, EvaluationRecord[]> {
  const groups = new Map<string, EvaluationRecord[]>();
  for (const record of records) {
    const key = keyOf(record);
    const group = groups.get(key);
    if (group) group.push(record);
    else groups.set(key, [record]);
  }
  return groups;
}

const isDense = ({ method }: EvaluationRecord): boolean => method.id === denseRun.id;

/** Every cell that there are records of, dense attention first in each task and length. Records of unknown tasks are left out. */
export function cellsOf(records: readonly EvaluationRecord[], tasks: readonly Task[]): Cell[] {
  const known = new Map(tasks.map((task) => [task.id, task]));
  const places = grouped(records, ({ task, length }) => JSON.stringify([task, length]));
  const cells: Cell[] = [];
  for (const some of places.values()) {
    const task = known.get(some[0].task);
    if (!task) continue;
    const dense = some.filter(isDense);
    const methods = grouped(some, ({ method }) => methodLabel(method));
    for (const own of [...methods.values()].sort((a, b) => Number(isDense(b[0])) - Number(isDense(a[0])))) {
      cells.push(cellOf(task, own, dense));
    }
  }
  return cells.sort((a, b) => a.length - b.length).sort((a, b) => tasks.indexOf(a.task) - tasks.indexOf(b.task));
}

function cellOf(task: Task, own: readonly EvaluationRecord[], dense: readonly EvaluationRecord[]): Cell {
  const [{ method, length }] = own;
  const scores = own.flatMap(({ answers }) => answers.map((answer) => scoreOf(task, answer)));
  const score = meanOf(scores);
  const denseScores = dense.flatMap(({ answers }) => answers.map((answer) => scoreOf(task, answer)));
  const informative = denseScores.length > 0 && (task.reading === 'bits' || mean(denseScores) >= informativeFrom(task));
  const difference = isDense(own[0]) ? undefined : differenceOf(task, own, dense);
  return {
    task,
    method,
    label: methodLabel(method),
    length,
    contexts: own.length,
    score,
    interval:
      task.reading === 'bits'
        ? { low: score.mean - 1.96 * score.stderr, high: score.mean + 1.96 * score.stderr }
        : wilson(score.mean * score.count, score.count),
    logProb: mean(own.flatMap(({ answers }) => answers.map(({ logProb }) => logProb))),
    difference,
    verdict: verdictOf(task, { informative, isDense: isDense(own[0]), difference }),
    density: mean(own.map(({ density }) => density)),
    kvShare: shareOf(own, dense),
  };
}

/** Bytes of contexts over those that dense attention took for the same ones. */
function shareOf(own: readonly EvaluationRecord[], dense: readonly EvaluationRecord[]): number | undefined {
  const shares = own.flatMap(({ sample, kvBytes }) => {
    const whole = dense.find((record) => record.sample === sample)?.kvBytes;
    return kvBytes === undefined || whole === undefined ? [] : [kvBytes / whole];
  });
  return shares.length === 0 ? undefined : mean(shares);
}

/** Differences by context, on the questions that both answered. */
function differenceOf(task: Task, own: readonly EvaluationRecord[], dense: readonly EvaluationRecord[]): Cell['difference'] {
  const groups = own.map(({ sample, answers }) => {
    const other = dense.find((record) => record.sample === sample)?.answers ?? [];
    return answers.slice(0, other.length).map((answer, index) => scoreOf(task, answer) - scoreOf(task, other[index]));
  });
  const all = groups.flat();
  return all.length === 0 ? undefined : { mean: mean(all), pairs: all.length, ...bootstrap(groups) };
}

function verdictOf(
  { reading }: Task,
  cell: { readonly informative: boolean; readonly isDense: boolean; readonly difference: Cell['difference'] },
): Verdict {
  const { difference } = cell;
  if (!cell.informative) return 'not informative';
  if (cell.isDense) return 'baseline';
  if (!difference || difference.pairs < leastPairs.answers) return 'undecided';
  // A gain in bits is a loss.
  const [worst, best, margin] =
    reading === 'bits' ? [-difference.high, -difference.low, margins.bits] : [difference.low, difference.high, margins.score];
  if (worst >= -margin) return 'kept';
  return best < 0 ? 'worse' : 'undecided';
}

/** The time of every method at every length, beside dense attention on the same contexts. */
export function speedsOf(records: readonly EvaluationRecord[]): Speed[] {
  const dense = new Map(records.filter(isDense).map((record) => [placeOf(record), record]));
  const groups = grouped(records, ({ method, length }) => JSON.stringify([methodLabel(method), length]));
  return [...groups.values()]
    .map((own): Speed => {
      const decode = own.flatMap(({ decodeSeconds }) => (decodeSeconds === null ? [] : [1000 * decodeSeconds]));
      const pairs = isDense(own[0]) ? [] : own.map((record) => [dense.get(placeOf(record)), record] as const);
      return {
        method: own[0].method,
        label: methodLabel(own[0].method),
        length: own[0].length,
        contexts: own.length,
        prefillSeconds: median(own.map(({ prefillSeconds }) => prefillSeconds)),
        decodeMs: decode.length === 0 ? undefined : median(decode),
        prefillRatio: ratioOf(pairs.map(([base, record]) => [base?.prefillSeconds, record.prefillSeconds])),
        decodeRatio: ratioOf(pairs.map(([base, record]) => [base?.decodeSeconds, record.decodeSeconds])),
        density: mean(own.map(({ density }) => density)),
      };
    })
    .sort((a, b) => a.length - b.length);
}

const placeOf = ({ task, length, sample }: EvaluationRecord): string => JSON.stringify([task, length, sample]);

/** Geometric mean of paired ratios and its bootstrap interval; undefined without pairs. */
function ratioOf(
  pairs: readonly (readonly [base: number | null | undefined, own: number | null | undefined])[],
): Ratio | undefined {
  const logs = pairs.flatMap(([base, own]) => (base && own ? [Math.log(base / own)] : []));
  if (logs.length === 0) return undefined;
  const { low, high } = bootstrap(logs.map((value) => [value]));
  return { mean: Math.exp(mean(logs)), low: Math.exp(low), high: Math.exp(high), pairs: logs.length };
}
