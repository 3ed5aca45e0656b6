import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { built } from './generated-parts.mjs';
import { difference, measured, percent } from './measured-methods.mjs';
import { root } from './run.mjs';

const types = join(root, 'docs/reports/smollm2-135m-kv/types.json');

/** Bytes, of all, that cells may keep which are compared as cut down to a quarter: whole pages are a little more. */
const equalBytes = 0.3;

/** What somebody may want of a cache that keeps less, and which measured cells serve it. */
const situations = [
  {
    title: 'Questions come later, or several over one text',
    serves: ({ method, moment }) => moment === 'context' && method.queryAgnostic,
  },
  {
    title: 'The same, and the text can be read only once',
    serves: ({ method, moment, repeats }) => moment === 'context' && method.queryAgnostic && !repeats,
  },
  {
    title: 'The same, and there is time to calibrate the model once',
    serves: ({ method, moment }) => moment === 'context' && method.queryAgnostic && method.planned,
  },
  { title: 'The question is known when the cache is cut down', serves: ({ moment }) => moment === 'question' },
];

/** For every situation the methods that found most needles at equal bytes, best first, between all entries and random ones. */
export async function kvChoiceTable() {
  const { kvMethods } = await built('kv-cache');
  const cells = (await measured('kv')).filter(({ verdict }) => verdict !== 'not informative');
  const named = (cell) => kvMethods.find(({ id }) => cell.method.id === `kv/${id}`);
  const candidates = cells.filter(named).map((cell) => ({
    cell,
    method: named(cell),
    moment: cell.method.options.after ?? 'context',
    repeats: !named(cell).planned && named(cell).create().repeat !== undefined,
  }));
  const score = ({ score: { mean } }) => mean.toFixed(2);
  const dense = cells.find(({ method }) => method.id === 'dense');
  const head = ['what you have', 'first', 'second', 'third', 'random entries', 'all entries'];
  const rows = situations.map(({ title, serves }) => {
    const own = candidates.filter(serves).filter(({ moment, cell }) => moment === 'question' || cell.kvShare <= equalBytes);
    const random = candidates.find(({ method, moment }) => method.id === 'random' && moment === own[0]?.moment);
    const ranked = own
      .filter(({ method }) => method.id !== 'random')
      .sort((a, b) => b.cell.score.mean - a.cell.score.mean)
      // The best setting of every method.
      .filter(({ method }, index, all) => all.findIndex((other) => other.method === method) === index)
      .slice(0, 3)
      .map(({ cell, method }) => `\`${method.id}\` ${score(cell)}, less all ${difference(cell)}`);
    while (ranked.length < 3) ranked.push('');
    return [title, ...ranked, random ? score(random.cell) : '', dense ? score(dense) : ''];
  });
  return [head, ...rows];
}

/** Types of codes by the bytes they take, with what they do to predictions; those that others beat in both are left out. */
export async function kvTypesTable() {
  const head = ['keys', 'values', 'bytes of f16', 'KL, mean', 'KL, 99 %', 'same likeliest token'];
  if (!existsSync(types)) return [head];
  const { rows, pairs } = JSON.parse(readFileSync(types, 'utf8'));
  const best = pairs
    .filter((pair) => !pairs.some((other) => other.bytes <= pair.bytes && other.quality.klMean < pair.quality.klMean))
    .sort((a, b) => b.bytes - a.bytes);
  return [
    head,
    ...best.map(({ k, v, bytes, quality: { klMean, kl99, sameTop } }) => {
      const figures = [klMean, kl99].map((value) => value.toExponential(1));
      return [`\`${k}\``, `\`${v}\``, percent(bytes / rows.bytes), ...figures, `${(100 * sameTop).toFixed(1)} %`];
    }),
  ];
}
