import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { built } from './generated-parts.mjs';
import { root } from './run.mjs';

/** Records of the report that methods of sparse attention are judged by. */
const file = join(root, 'docs/reports/smollm2-135m/records.jsonl');

const signed = (value) => `${value < 0 ? '−' : '+'}${Math.abs(value).toFixed(2)}`;
const percent = (share) => `${Math.round(100 * share)} %`;
const times = (ratio) => (ratio ? `${ratio.mean.toFixed(2)} ×` : '–');
const difference = (cell) =>
  cell.difference ? `${signed(cell.difference.mean)} (${signed(cell.difference.low)} … ${signed(cell.difference.high)})` : '–';

/** What the records say: a cell per task, length and method, with its times. */
async function measured() {
  if (!existsSync(file)) return [];
  const { cellsOf, parseRecords, speedsOf, tasksNamed } = await built('evaluation');
  const { records } = parseRecords(readFileSync(file, 'utf8'));
  const tasks = tasksNamed([...new Set(records.map(({ task }) => task))]);
  const speeds = speedsOf(records);
  return cellsOf(records, tasks).map((cell) => {
    const speed = speeds.find(({ label, length }) => label === cell.label && length === cell.length);
    return { ...cell, speed };
  });
}

/** Columns for the table of methods, of the longest length at which dense attention can do the task. */
export async function measuredByMethod() {
  const cells = (await measured()).filter(({ verdict }) => verdict !== 'not informative');
  const longest = Math.max(...cells.map(({ length }) => length));
  const last = cells.filter(({ length }) => length === longest);
  return {
    columns:
      last.length === 0
        ? []
        : [`density of a prompt of ${longest.toLocaleString('en-US')} tokens`, 'quality: needles found, less dense'],
    of(id) {
      if (last.length === 0) return [];
      const own = last.filter(({ method }) => method.id === id);
      const setting = ({ method }) =>
        Object.entries(method.options)
          .map(([name, value]) => ` \`${name}: ${value}\``)
          .join('');
      return [own.map((cell) => `${percent(cell.density)}${setting(cell)}`).join(', '), own.map(difference).join(', ')];
    },
  };
}

/** Every cell of the report. */
export async function reportTable() {
  const head = ['task', 'tokens', 'method', 'density', 'answers', 'score', 'less dense (95 %)', 'verdict', 'prompt', 'step'];
  const rows = (await measured()).map((cell) => {
    const { task, length, label, density, score, verdict, speed } = cell;
    const row = [task.id, length.toLocaleString('en-US'), `\`${label}\``, percent(density), score.count, score.mean.toFixed(2)];
    return [...row, difference(cell), verdict, times(speed?.prefillRatio), times(speed?.decodeRatio)];
  });
  return [head, ...rows];
}
