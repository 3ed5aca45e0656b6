import Table from 'cli-table3';
import { belowGoal, type BenchRecord } from './record.js';

/** Three significant digits, more where the whole part has them. */
function figure(value: number | null): string {
  if (value === null) return '';
  const size = Math.abs(value);
  return size >= 100 ? value.toFixed(0) : size >= 10 ? value.toFixed(1) : value.toFixed(2);
}

/** Records as a table; those below their goal are marked and counted below it. */
export function formatTable(records: readonly BenchRecord[]): string {
  const head = ['suite', 'work', 'ours', 'unit', 'peer', 'than', 'ratio', 'goal', 'bound', 'of bound'];
  const table = new Table({ head, style: { head: [], border: [], compact: true } });
  for (const record of records) {
    table.push([
      record.suite,
      record.work,
      figure(record.ours),
      record.unit,
      figure(record.peer),
      record.peerName ?? '',
      record.ratio === null ? '' : `${figure(record.ratio)}${belowGoal(record) ? ' ✖' : ''}`,
      figure(record.goal),
      figure(record.bound),
      record.boundRatio === null ? '' : `${(100 * record.boundRatio).toFixed(0)} %`,
    ]);
  }
  const cpus = [...new Set(records.map(({ cpu }) => cpu))];
  const missed = records.filter(belowGoal);
  return [
    table.toString(),
    ...cpus.map((cpu) => `on ${cpu}`),
    ...missed.map(
      ({ work, peerName, ratio, goal }) =>
        `✖ below its goal: ${work} against ${peerName ?? 'nothing'}, ${figure(ratio)} of ${figure(goal)}`,
    ),
  ].join('\n');
}
