import Table from 'cli-table3';
import { median } from './measure/median.js';
import { missedGoals, type BenchRecord } from './record.js';

/** Three significant digits, more where the whole part has them. */
function figure(value: number | null): string {
  if (value === null) return '';
  const size = Math.abs(value);
  return size >= 100 ? value.toFixed(0) : size >= 10 ? value.toFixed(1) : value.toFixed(2);
}

/** The median read bandwidth, and the range where it is wide: the machine was in two states. */
function bandwidth({ ceilings }: BenchRecord): string {
  if (ceilings === null) return '';
  const readGBps = ceilings.map((ceiling) => ceiling.readGBps);
  const [lowest, highest] = [Math.min(...readGBps), Math.max(...readGBps)];
  const middle = figure(median(readGBps));
  return highest > 1.1 * lowest ? `${middle} (${figure(lowest)}–${figure(highest)})` : middle;
}

/** Records as a table; those below their goal are marked and named below it. */
export function formatTable(records: readonly BenchRecord[]): string {
  const head = ['suite', 'work', 'ours', 'unit', 'peer', 'than', 'ratio', 'goal', 'bound', 'of bound', 'read GB/s'];
  const table = new Table({ head, style: { head: [], border: [], compact: true } });
  for (const record of records) {
    const mark = missedGoals(record).length > 0 ? ' ✖' : '';
    const asked = record.boundGoal === null ? '' : ` of ${(100 * record.boundGoal).toFixed(0)} %`;
    table.push([
      record.suite,
      record.work,
      `${figure(record.ours)}${mark}`,
      record.unit,
      figure(record.peer),
      record.peerName ?? '',
      figure(record.ratio),
      figure(record.goal),
      figure(record.bound),
      record.boundRatio === null ? '' : `${(100 * record.boundRatio).toFixed(0)} %${asked}`,
      bandwidth(record),
    ]);
  }
  const cpus = [...new Set(records.map(({ cpu }) => cpu))];
  return [
    table.toString(),
    ...cpus.map((cpu) => `on ${cpu}`),
    ...records.flatMap(missedGoals).map((missed) => `✖ below its goal: ${missed}`),
  ].join('\n');
}
