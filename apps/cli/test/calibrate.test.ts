import { kvCalibrations, parseKvPlan } from '@filigree/kv-cache';
import { calibrations, parseHeadPlan } from '@filigree/sparse-attention';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ModelFolder } from './support/models.js';
import { run } from './support/run.js';

const folder = new ModelFolder();
const output = join(folder.path, 'plan.json');
let model: string;

beforeAll(async () => {
  model = await folder.model('tiny.gguf', { context: 4096 });
  folder.file('text.txt', 'The quick brown fox jumps over the lazy dog. '.repeat(160));
});

afterAll(() => {
  folder.remove();
});

const calibrate = (...args: string[]): ReturnType<typeof run> =>
  run(['calibrate', '--model', model, '--text', join(folder.path, 'text.txt'), '--out', output, ...args]);

describe('calibrate', () => {
  it.each(calibrations.filter(({ result }) => result === 'head-plan'))(
    'writes a plan of heads for $id that can be read back',
    async ({ id }) => {
      // A window has at least two blocks of 64, which is most of so short a prompt.
      const bound = id === 'moa' ? ['--bound', '0.9'] : [];
      const { code, stdout, stderr } = await calibrate('--method', id, '--length', '192', '--force', ...bound);
      expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
      expect(stdout).toMatch(/density [\d.]+, mass [\d.]+/);
      const plan = parseHeadPlan(readFileSync(output, 'utf8'));
      expect(plan.layers).toHaveLength(plan.model.layers);
      expect(plan.model.name).toBe('tiny.gguf');
      expect(existsSync(`${output}.progress`)).toBe(false);
    },
  );

  it.each(kvCalibrations)('writes a plan of the cache for $id that --kv takes', async ({ id }) => {
    const { code, stdout, stderr } = await calibrate('--method', id, '--length', '2048', '--force');
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toContain(`--kv ${id}:plan=${output}`);
    expect(parseKvPlan(readFileSync(output, 'utf8')).model.name).toBe('tiny.gguf');
    expect(existsSync(`${output}.progress`)).toBe(false);
    const prompt = ['-m', model, '-p', 'The quick brown fox', '-n', '2', '--kv'];
    const whole = await run(['generate', ...prompt, `${id}:plan=${output}`]);
    expect({ code: whole.code, stderr: whole.stderr }).toMatchObject({ code: 0 });
    expect((await run(['generate', ...prompt, id])).stderr).toMatch(
      new RegExp(`${id}: it needs a plan .*filigree calibrate --method ${id}`),
    );
    expect((await run(['generate', ...prompt, `${id}:plan=${folder.file('none.json', '{}')}`])).stderr).toMatch(
      /version is undefined/,
    );
    expect((await run(['generate', ...prompt, `snap-kv:plan=${output}`])).stderr).toMatch(/not "plan"/);
  });

  it('writes the channels of every head', async () => {
    const lengths = ['--length', '64,128', '--samples', '2'];
    const { code, stderr } = await calibrate('--method', 'double-sparsity', ...lengths, '--force');
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const { channels } = JSON.parse(readFileSync(output, 'utf8')) as { channels: number[][][] };
    expect(channels.flat().every((head) => new Set(head).size === head.length && head.length > 0)).toBe(true);
  });

  it('refuses what it cannot do, saying why', async () => {
    writeFileSync(output, '{}');
    expect((await calibrate('--method', 'moa')).stderr).toMatch(/plan\.json exists; --force replaces it/);
    const long = await calibrate('--method', 'moa', '--length', '100000', '--force');
    expect(long.stderr).toMatch(/the text has \d+ tokens, 1 samples take 100000/);
    const bound = await calibrate('--method', 'double-sparsity', '--bound', '1', '--force');
    expect(bound.stderr).toMatch(/'--bound': double-sparsity takes none/);
    expect((await calibrate('--method', 'nothing')).code).toBe(2);
    writeFileSync(`${output}.progress`, 'torn');
    expect((await calibrate('--method', 'moa', '--length', '64', '--force')).stderr).toMatch(/holds no progress/);
  });
});
