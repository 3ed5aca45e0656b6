import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ModelFolder } from './support/models.js';
import { run } from './support/run.js';

const folder = new ModelFolder();
let model: string;

beforeAll(async () => {
  model = await folder.model();
});

afterAll(() => {
  folder.remove();
});

interface Printed {
  readonly pairs: readonly { k: string; v: string; bytes: number; quality: { klMean: number; tokens: number } }[];
}

describe('kv-types', () => {
  const few = ['kv-types', '--windows', '1', '--types', 'int8,kivi2'];

  it('compares every type of keys with every type of values', async () => {
    const { code, stdout } = await run([...few, '--model', model, '--json']);
    expect(code).toBe(0);
    const { pairs } = JSON.parse(stdout) as Printed;
    expect(pairs.map(({ k, v }) => `${k} ${v}`)).toEqual(['int8 int8', 'int8 kivi2', 'kivi2 int8', 'kivi2 kivi2']);
    const [fine, , , coarse] = pairs;
    expect(fine.quality).toMatchObject({ tokens: 255 });
    expect(fine.quality.klMean).toBeGreaterThan(0);
    expect(coarse.quality.klMean).toBeGreaterThan(fine.quality.klMean);
    expect(coarse.bytes).toBeLessThan(fine.bytes);
  });

  it('prints a table', async () => {
    const { stdout } = await run([...few, '--model', model]);
    expect(stdout).toMatch(/keys \\ values +int8 +kivi2/);
    expect(stdout).toMatch(/^int8 +\d\.\de[-+]\d +\d+ B +\d\.\de[-+]\d +\d+ B$/m);
  });

  it('says how much text it needs', async () => {
    const short = join(folder.path, 'short.txt');
    writeFileSync(short, 'too short');
    const { code, stderr } = await run([...few, '--model', model, '--text', short]);
    expect(code).toBe(2);
    expect(stderr).toContain('kv-types needs 512 tokens of text');
  });
});
