import { layerPlan, formatHeadPlan } from '@filigree/sparse-attention';
import { appendFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseMethods } from '../src/options/methods.js';
import { ModelFolder } from './support/models.js';
import { run, type Ended } from './support/run.js';

const folder = new ModelFolder();
const out = join(folder.path, 'out');
let model = '';

beforeAll(async () => {
  model = await folder.model();
});

afterAll(() => {
  folder.remove();
});

const evaluateTask = (task: string, ...more: readonly string[]): Promise<Ended> =>
  run([
    ...[
      'eval',
      '--model',
      model,
      '--backend',
      'reference',
      '--method',
      'streaming-llm:sinks=2,window=16,sliding-window:window=16',
    ],
    ...['--task', task, '--length', '128,192', '--samples', '2', '--queries', '2', '--out', out, ...more],
  ]);

const evaluate = (...more: readonly string[]): Promise<Ended> => evaluateTask('copy', ...more);

const recordLines = (): string[] => readFileSync(join(out, 'records.jsonl'), 'utf8').trimEnd().split('\n');

describe('filigree eval', () => {
  it('ends with its budget, and the same command goes on from there', async () => {
    const evaluate = (...more: readonly string[]): Promise<Ended> => evaluateTask('perplexity-strided', ...more);
    const cut = await evaluate('--budget', '0.000001');
    expect(cut.code).toBe(0);
    expect(cut.stderr).toContain('12 contexts to read');
    expect(cut.stderr).toContain('the same command goes on');
    const first = await evaluate();
    expect(first.stderr).toContain('12 contexts to read');
    expect(recordLines().length).toBe(12);
    appendFileSync(join(out, 'records.jsonl'), '{"version":1,"task":"co');
    const again = await evaluate();
    expect(again.stderr).toContain('0 contexts to read');
    expect(recordLines().length).toBe(12);
    expect(again.stdout).toBe(first.stdout);
  });

  it('prints methods beside dense attention, and writes a page that needs nothing else', async () => {
    const { stdout } = await evaluate();
    for (const method of ['dense', 'streaming-llm:sinks=2,window=16', 'sliding-window:window=16'])
      expect(stdout).toContain(method);
    // A model of random weights copies nothing.
    expect(stdout).toContain('not informative');
    const page = readFileSync(join(out, 'report.html'), 'utf8');
    expect(page).toContain('<svg');
    expect(page).not.toMatch(/<script|<link|src=|url\((?!#)/);
    for (const said of ['seed', '--length 128,192', 'SHA-256', 'not informative']) expect(page).toContain(said);
  });

  it('takes nothing from records of another seed', async () => {
    const { stderr } = await evaluate('--seed', '7', '--budget', '0.000001');
    expect(stderr).toContain('12 contexts to read');
  });

  it('prints one object with --json', async () => {
    const { stdout } = await evaluate('--json');
    const printed = JSON.parse(stdout) as { cells: { task: string; label: string }[]; facts: { seed: number } };
    expect(printed.facts.seed).toBe(43);
    expect(printed.cells.length).toBe(6);
  });

  it('evaluates a head plan beside methods, or alone', async () => {
    const file = join(folder.path, 'plan.json');
    const choice = { method: 'streaming-llm', options: { sinks: 2, window: 16 } };
    writeFileSync(file, formatHeadPlan(layerPlan({ name: 'tiny', layers: 2, heads: 4, kvHeads: 2 }, () => choice)));
    const { stdout, stderr } = await evaluateTask('perplexity-strided', '--head-plan', file, '--json');
    expect(stderr).toContain('4 contexts to read');
    const { cells } = JSON.parse(stdout) as { cells: { label: string; score: { mean: number } }[] };
    const scores = (label: RegExp) => cells.filter((cell) => label.test(cell.label)).map(({ score }) => score);
    expect(scores(/^head-plan/).length).toBe(2);
    expect(scores(/^head-plan:hash=[0-9a-f]{12},name=plan\.json$/)).toEqual(scores(/^streaming-llm/));
    const nothing = await run(['eval', '--model', model, '--out', out]);
    expect(nothing.code).toBe(2);
    expect(nothing.stderr).toContain('--head-plan');
  });

  it('evaluates methods that keep less of the cache, and says of how many bytes', async () => {
    const kv = 'snap-kv:budget=64,window=8,snap-kv:budget=64,window=8,after=question,streaming-llm:budget=4096';
    const { stdout } = await evaluateTask('copy,perplexity-strided', '--kv', kv, '--backend', 'native', '--json');
    const { cells } = JSON.parse(stdout) as {
      cells: { task: string; label: string; length: number; kvShare: number; score: { mean: number } }[];
    };
    const own = (label: string, task: string) =>
      cells.filter((cell) => cell.length === 192 && cell.label === label && cell.task === task)[0];
    expect(own('kv/snap-kv:budget=64,window=8', 'copy').kvShare).toBeLessThan(0.6);
    expect(own('kv/snap-kv:after=question,budget=64,window=8', 'copy').kvShare).toBe(1);
    // All entries are kept: the answers are those of dense attention.
    const bits = (label: string): number => own(label, 'perplexity-strided').score.mean;
    expect(bits('kv/streaming-llm:budget=4096')).toBeCloseTo(bits('dense'), 4);
    expect(bits('kv/snap-kv:budget=64,window=8')).not.toBeCloseTo(bits('dense'), 4);
    const page = readFileSync(join(out, 'report.html'), 'utf8');
    expect(page).toContain('--kv snap-kv:budget=64,window=8,');
  });

  it('measures planted attention without reading a prompt', async () => {
    const { stdout, code } = await evaluateTask('planted');
    expect(code).toBe(0);
    expect(stdout).toContain('evidence kept');
  });
});

describe('lists of methods', () => {
  it('keep options together', () => {
    expect(parseMethods('dense,streaming-llm:sinks=2,window=16,sliding-window')).toEqual([
      { id: 'streaming-llm', options: { sinks: 2, window: 16 } },
      { id: 'sliding-window', options: {} },
    ]);
  });
});
