import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { built } from './generated-parts.mjs';
import { root } from './run.mjs';

/** Records of the reports that methods of sparse attention and of the cache are judged by. */
const reports = {
  attention: join(root, 'docs/reports/smollm2-135m/records.jsonl'),
  kv: join(root, 'docs/reports/smollm2-135m-kv/records.jsonl'),
};

const signed = (value) => `${value < 0 ? '−' : '+'}${Math.abs(value).toFixed(2)}`;
export const percent = (share) => `${Math.round(100 * share)} %`;
const times = (ratio) => (ratio ? `${ratio.mean.toFixed(2)} ×` : '–');
export const difference = (cell) =>
  cell.difference ? `${signed(cell.difference.mean)} (${signed(cell.difference.low)} … ${signed(cell.difference.high)})` : '–';

/** What the records say: a cell per task, length and method, with its times. */
export async function measured(report) {
  const file = reports[report];
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
  const cells = (await measured('attention')).filter(({ verdict }) => verdict !== 'not informative');
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
  const rows = (await measured('attention')).map((cell) => {
    const { task, length, label, density, score, verdict, speed } = cell;
    const row = [task.id, length.toLocaleString('en-US'), `\`${label}\``, percent(density), score.count, score.mean.toFixed(2)];
    return [...row, difference(cell), verdict, times(speed?.prefillRatio), times(speed?.decodeRatio)];
  });
  return [head, ...rows];
}

/** Columns for the table of methods of the cache: every length at which dense attention can do the task. */
export async function measuredByKvMethod() {
  const cells = (await measured('kv')).filter(({ verdict }) => verdict !== 'not informative');
  const lengths = [...new Set(cells.map(({ length }) => length))];
  const moments = { context: 'before', question: 'after' };
  const columns = lengths.flatMap((length) =>
    Object.values(moments).map(
      (moment) => `${length.toLocaleString('en-US')} tokens, cut down ${moment} the question is known`,
    ),
  );
  return {
    columns,
    of(id) {
      return lengths.flatMap((length) =>
        Object.keys(moments).map((moment) => {
          const own = cells.filter(
            (cell) =>
              cell.length === length && cell.method.id === `kv/${id}` && (cell.method.options.after ?? 'context') === moment,
          );
          return own.map((cell) => `${setting(cell, own)}: ${difference(cell)}`).join(', ');
        }),
      );
    },
  };

  /** What is kept, and options in which cells that keep as much differ. */
  function setting(cell, all) {
    const kept = ({ method, kvShare }) =>
      method.options.after === undefined ? `${percent(kvShare)} of the bytes` : `budget ${method.options.budget}`;
    const alike = all.filter((other) => kept(other) === kept(cell));
    const differing = Object.entries(cell.method.options).filter(([name, value]) =>
      alike.some(({ method }) => method.options[name] !== value),
    );
    return [kept(cell), ...differing.map(([name, value]) => `\`${name}: ${value}\``)].join(' ');
  }
}

/** Every cell of the report on the cache. */
export async function kvReportTable() {
  const head = ['task', 'tokens', 'method', 'bytes', 'answers', 'score', 'less dense (95 %)', 'verdict'];
  const rows = (await measured('kv')).map((cell) => {
    const { task, length, label, kvShare, score, verdict } = cell;
    const row = [task.id, length.toLocaleString('en-US'), `\`${label}\``, percent(kvShare), score.count, score.mean.toFixed(2)];
    return [...row, difference(cell), verdict];
  });
  return [head, ...rows];
}
