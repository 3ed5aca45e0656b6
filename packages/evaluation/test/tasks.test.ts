import { OptionError } from '@filigree/core-tensor';
import { describe, expect, it } from 'vitest';
import { allTasks, plainFormat, tasksNamed, type Sample, type SampleOptions, type Task } from '../src/index.js';
import { letterTokenizer } from './support/letters.js';

const text = 'It was a bright cold day and the clocks were striking. '.repeat(2000);
const tasks = allTasks(text);
const tokenizer = letterTokenizer({ addBos: true });
const decode = (tokens: readonly number[]): string => tokenizer.decode(tokens);

const sample = (task: Task, options: Partial<SampleOptions> = {}): Sample =>
  task.sample({ seed: 43, tokens: 6000, tokenizer, format: plainFormat(tokenizer), index: 0, queries: 5, ...options });

/** Most tokens that context, question and answer have together. */
const lengthOf = ({ context, queries }: Sample): number =>
  context.length + Math.max(...queries.map(({ prompt, answer }) => prompt.length + answer.length));

describe.each(tasks.map((task) => [task.id, task] as const))('%s', (_id, task) => {
  it('gives the same sample for the same seed, and another one for another seed or index', () => {
    expect(sample(task)).toEqual(sample(task));
    if (task.reading !== 'bits') expect(sample(task, { seed: 44 })).not.toEqual(sample(task));
    expect(sample(task, { index: 1 })).not.toEqual(sample(task));
  });

  it.each([6000, 9001, 20_000])('fills at least nine tenths of %d tokens, and no more than all', (tokens) => {
    const length = lengthOf(sample(task, { tokens }));
    expect(length).toBeLessThanOrEqual(tokens);
    expect(length).toBeGreaterThanOrEqual(0.9 * tokens);
  });

  it('begins with the token that begins texts, once', () => {
    const { context, queries } = sample(task);
    expect([context, ...queries.map(({ prompt }) => prompt)].map((tokens) => tokens.filter((id) => id === 0).length)).toEqual([
      1,
      ...queries.map(() => 0),
    ]);
    expect(context[0]).toBe(0);
  });

  it('gives an answer of its references 1 and an empty one 0', () => {
    if (task.reading === 'bits') return;
    for (const query of sample(task).queries) {
      expect(task.score(query, `${decode(query.answer)}.`)).toBe(1);
      expect(task.score(query, '')).toBe(0);
      expect(task.score(query, 'I do not know.')).toBe(0);
    }
  });

  it('has its evidence where it says', () => {
    for (const { spans, references } of sample(task).queries) {
      if (task.reading === 'ranked' || task.id === 'copy') continue;
      const evidence = spans.map(([start, end]) => decode(sample(task).context.slice(start, end)));
      for (const reference of references) expect(evidence.join('\n')).toContain(reference);
    }
  });

  it('refuses fewer tokens than it can fill', () => {
    expect(() => sample(task, { tokens: task.reading === 'bits' ? 2 : 40 })).toThrow(OptionError);
  });
});

describe('retrieval', () => {
  const retrieval = tasksNamed(['passkey', 'needle', 'ruler'], text);

  it('asks about different keys with different answers', () => {
    for (const task of retrieval) {
      const { queries } = sample(task, { tokens: 9000 });
      expect(new Set(queries.map(({ prompt }) => decode(prompt))).size).toBe(queries.length);
      if (task.id !== 'ruler-multiquery')
        expect(new Set(queries.map(({ answer }) => decode(answer))).size).toBe(queries.length);
    }
  });

  it('states every fact once', () => {
    const { context, queries } = sample(tasksNamed(['needle'])[0]);
    for (const { references } of queries) expect(decode(context).split(references[0]).length).toBe(2);
  });

  it('spreads depths evenly: no tenth of the text is preferred', () => {
    const [needle] = tasksNamed(['needle']);
    const bins = new Array<number>(10).fill(0);
    for (let index = 0; index < 60; index++) {
      const { context, queries } = sample(needle, { index, queries: 5 });
      for (const { spans } of queries) bins[Math.min(9, Math.floor((10 * spans[0][0]) / context.length))]++;
    }
    const expected = 30;
    const chi = bins.reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0);
    // 99.9 % of draws of a uniform distribution are below, with 9 degrees of freedom.
    expect(chi).toBeLessThan(27.9);
  });

  it('keeps the words of a context when it gets longer, so that lengths differ in filler alone', () => {
    const [needle] = tasksNamed(['needle']);
    const asked = (tokens: number): string[] => sample(needle, { tokens }).queries.map(({ prompt }) => decode(prompt));
    expect(asked(6000)).toEqual(asked(20_000));
  });
});

describe('the copy probe', () => {
  it('asks for what followed the passage that it gives', () => {
    const { context, queries } = sample(tasksNamed(['copy'])[0]);
    for (const { prompt, answer } of queries) expect(decode(context)).toContain(decode([...prompt, ...answer]));
  });
});

describe('counting words', () => {
  it.each(['words-common', 'words-frequent'])('%s: right words appear more often than any wrong one', (id) => {
    const [task] = tasksNamed([id]);
    for (const tokens of [3000, 20_000]) {
      const { context, queries } = sample(task, { tokens });
      const words = decode(context).split(/\s+/);
      const count = (ids: readonly number[]): number => words.filter((word) => word === decode(ids).trim()).length;
      const ranking = queries[0].ranking ?? { right: [], wrong: [] };
      expect(ranking.right.length).toBe(ranking.wrong.length);
      expect(Math.min(...ranking.right.map(count))).toBeGreaterThan(Math.max(...ranking.wrong.map(count)));
      expect(Math.min(...ranking.wrong.map(count))).toBeGreaterThan(0);
    }
  });
});

describe('names of tasks', () => {
  it('stand for one task or a group', () => {
    expect(tasksNamed(['ruler']).length).toBe(8);
    expect(tasksNamed(['ruler-single-1', 'needle', 'needle']).map(({ id }) => id)).toEqual(['ruler-single-1', 'needle']);
  });

  it('are refused when nothing has them', () => {
    expect(() => tasksNamed(['haystack'])).toThrow(OptionError);
    expect(() => tasksNamed(['perplexity'])).toThrow(OptionError);
  });
});
