import { OptionError } from '@filigree/core-tensor';
import { describe, expect, it } from 'vitest';
import {
  cellsOf,
  depthGrids,
  evaluate,
  formatRecord,
  memoryLog,
  parseRecords,
  payoffsOf,
  plainFormat,
  speedsOf,
  tasksNamed,
  type EvaluateOptions,
  type EvaluateProgress,
  type EvaluationRecord,
} from '../src/index.js';
import { facts } from './support/facts.js';
import { reader } from './support/reader.js';

const narrow = { id: 'sliding-window', options: { window: 3000 } };

function optionsOf(change: Partial<EvaluateOptions> = {}): EvaluateOptions & { subject: ReturnType<typeof reader> } {
  const subject = reader();
  const format = plainFormat(subject.tokenizer);
  return {
    ...{ format, facts, tasks: tasksNamed(['needle']), methods: [narrow], lengths: [4000, 8000], samples: 4, log: memoryLog() },
    ...change,
    subject,
  };
}

async function all(options: EvaluateOptions): Promise<EvaluateProgress[]> {
  const progress: EvaluateProgress[] = [];
  for await (const step of evaluate(options)) progress.push(step);
  return progress;
}

async function records(change: Partial<EvaluateOptions> = {}): Promise<readonly EvaluationRecord[]> {
  const options = optionsOf(change);
  await all(options);
  return options.log.records;
}

const phaseOf = (): 'prefill' => 'prefill';

describe('a run', () => {
  it('reads a context once per method and asks everything on forks of it', async () => {
    const options = optionsOf();
    await all(options);
    expect(options.subject.calls).toEqual({ prefills: 16, questions: 16 * (5 + 1) });
  });

  it('asks dense attention and methods the same questions, dense first', async () => {
    const made = await records();
    for (let index = 0; index < made.length; index += 2) {
      const [dense, sparse] = made.slice(index, index + 2);
      expect([dense.method.id, sparse.method.id]).toEqual(['dense', 'sliding-window']);
      expect(dense.contextTokens).toBe(sparse.contextTokens);
      expect(dense.answers.map(({ depth }) => depth)).toEqual(sparse.answers.map(({ depth }) => depth));
    }
  });

  it('finds everything dense, and with a window what is in it', async () => {
    for (const { method, answers, contextTokens } of await records()) {
      for (const { exact, depth } of answers) {
        const visible = method.id === 'dense' || (1 - (depth ?? 0)) * contextTokens < 2900;
        const hidden = method.id !== 'dense' && (1 - (depth ?? 0)) * contextTokens > 3100;
        if (visible) expect(exact).toBe(1);
        if (hidden) expect(exact).toBe(0);
      }
    }
  });

  it('goes on where it was interrupted, with the same records in the end', async () => {
    let contexts = 0;
    const log = memoryLog();
    await all(optionsOf({ log, outOfTime: () => ++contexts > 5 }));
    expect(log.records.length).toBe(5);
    const second = optionsOf({ log });
    await all(second);
    expect(second.subject.calls.prefills).toBe(11);
    const plain = (list: readonly EvaluationRecord[]): unknown => list.map(({ questionSeconds: _, ...rest }) => rest);
    expect(plain(log.records)).toEqual(plain(await records()));
  });

  it('takes nothing from records of another seed or model', async () => {
    const log = memoryLog(await records());
    const other = optionsOf({ log, facts: { ...facts, seed: 44 } });
    await all(other);
    expect(other.subject.calls.prefills).toBe(16);
  });

  it('leaves methods out where dense attention certainly cannot do the task', async () => {
    // Of five questions none: the upper end of the interval is 0.43.
    const impossible = tasksNamed(['needle']).map((task) => ({
      ...task,
      sample: (options: Parameters<typeof task.sample>[0]) => {
        const sample = task.sample(options);
        return { ...sample, queries: sample.queries.map((query) => ({ ...query, answer: [1, 2, 3] })) };
      },
    }));
    const options = optionsOf({ tasks: impossible });
    const progress = await all(options);
    expect(options.log.records.map(({ method, sample }) => [method.id, sample])).toEqual([
      ['dense', 0],
      ['dense', 0],
    ]);
    expect(progress.at(-1)).toEqual({ done: 16, total: 16, record: undefined });
    expect(cellsOf(options.log.records, impossible).map(({ verdict }) => verdict)).toEqual([
      'not informative',
      'not informative',
    ]);
  });

  it('generates where the task or the caller asks for it', async () => {
    const [forced] = await records({ samples: 1 });
    expect(forced.answers[0]).toMatchObject({ generated: null, output: null });
    const [generated] = await records({ samples: 1, generate: true });
    expect(generated.answers[0]).toMatchObject({ exact: 1, generated: 1 });
    const [several] = await records({ samples: 1, tasks: tasksNamed(['ruler-multivalue']) });
    expect(several.answers[0].generated).not.toBeNull();
  });

  it('refuses lengths that the model does not take, unknown methods and options', async () => {
    await expect(all(optionsOf({ lengths: [200_000] }))).rejects.toThrow(OptionError);
    await expect(all(optionsOf({ methods: [{ id: 'magic', options: {} }] }))).rejects.toThrow(OptionError);
    await expect(all(optionsOf({ methods: [{ id: 'sliding-window', options: { depth: 1 } }] }))).rejects.toThrow(OptionError);
    await expect(all(optionsOf({ samples: 0 }))).rejects.toThrow(OptionError);
  });

  it('stops at its signal', async () => {
    await expect(all(optionsOf({ signal: AbortSignal.abort() }))).rejects.toMatchObject({ code: 'ABORTED' });
  });
});

describe('what a run comes to', () => {
  it('is the difference to dense with an interval, and a verdict', async () => {
    const cells = cellsOf(await records(), tasksNamed(['needle']));
    const of = (label: string, length: number) => cells.find((cell) => cell.label === label && cell.length === length);
    expect(of('dense', 8000)).toMatchObject({ verdict: 'baseline', difference: undefined, score: { mean: 1, count: 20 } });
    const sparse = of('sliding-window:window=3000', 8000);
    expect(sparse?.verdict).toBe('worse');
    expect(sparse?.difference?.high).toBeLessThan(0);
    expect(sparse?.difference?.mean).toBeCloseTo((sparse?.score.mean ?? 0) - 1, 12);
  });

  it('is "kept" where all answers are the same', async () => {
    const wide = { id: 'sliding-window', options: { window: 50_000 } };
    const cells = cellsOf(await records({ methods: [wide] }), tasksNamed(['needle']));
    expect(cells.filter(({ label }) => label !== 'dense').map(({ verdict }) => verdict)).toEqual(['kept', 'kept']);
  });

  it('supports no claim with few pairs', async () => {
    const made = await records({ samples: 1, facts: { ...facts, queries: 9 } });
    const cells = cellsOf(made, tasksNamed(['needle']));
    expect(cells.filter(({ label }) => label !== 'dense').map(({ verdict }) => verdict)).toEqual(['undecided', 'undecided']);
    const [payoff] = payoffsOf(cells, speedsOf(made), phaseOf);
    expect(payoff).toMatchObject({ fasterFrom: undefined, paysFrom: undefined, slowerAt: [], worse: [] });
  });

  it('says from which length a method is faster, and that it loses', async () => {
    const made = await records({ lengths: [2500, 4000, 8000], samples: 6 });
    const cells = cellsOf(made, tasksNamed(['needle']));
    const [payoff] = payoffsOf(cells, speedsOf(made), phaseOf);
    expect(payoff).toMatchObject({ label: 'sliding-window:window=3000', fasterFrom: 4000, paysFrom: undefined, slowerAt: [] });
    expect(payoff.worse.map(({ length }) => length)).toEqual([4000, 8000]);
    expect(payoff.longest?.length).toBe(8000);
    expect(payoff.longest?.ratio.mean).toBeGreaterThan(2.3);
  });

  it('has a grid of depths by length', async () => {
    const [task] = tasksNamed(['needle']);
    const grids = depthGrids(await records({ facts: { ...facts, queries: 10 } }), task);
    expect(grids.map(({ label, lengths }) => [label, lengths])).toEqual([
      ['dense', [4000, 8000]],
      ['sliding-window:window=3000', [4000, 8000]],
    ]);
    expect(grids[0].scores[1].every((score) => score === 1)).toBe(true);
    expect(grids[1].scores[1][0]).toBe(0);
    expect(grids[1].scores[1][9]).toBe(1);
  });
});

describe('lines of records', () => {
  it('come back as they were', async () => {
    const made = await records({ samples: 1 });
    const text = made.map(formatRecord).join('');
    expect(parseRecords(text)).toEqual({ records: made, wholeCharacters: text.length });
  });

  it('lose a last line whose writing was interrupted, and nothing else', async () => {
    const made = await records({ samples: 1 });
    const text = made.map(formatRecord).join('');
    for (const cut of [1, 2, 40]) expect(parseRecords(text.slice(0, -cut)).records).toEqual(made.slice(0, -1));
    expect(parseRecords('').records).toEqual([]);
  });

  it('are refused when another line is broken', async () => {
    const [line] = (await records({ samples: 1 })).map(formatRecord);
    expect(() => parseRecords(`${line}{"ver\n${line}`)).toThrow('line 2');
    expect(() => parseRecords('{"version":0}\n')).toThrow(OptionError);
  });
});
