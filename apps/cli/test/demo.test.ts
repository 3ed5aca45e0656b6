import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { DemoRow } from '../src/demo/demo-table.js';
import { ModelFolder } from './support/models.js';
import { bundleCli, runProcess, type Ended } from './support/run.js';

const folder = new ModelFolder();
let model: string;

beforeAll(async () => {
  await bundleCli();
  model = await folder.model('tiny.gguf', { context: 4096 });
});

afterAll(() => {
  folder.remove();
});

const demo = (...args: string[]): Promise<Ended> => runProcess(['demo', '--model', model, '--question', 'Is it?', ...args]);

describe('demo', () => {
  it('compares the same prompt read densely and sparsely', async () => {
    const { code, stdout } = await demo('--json');
    expect(code).toBe(0);
    const { answer, rows } = JSON.parse(stdout) as { answer: { text: string }; rows: DemoRow[] };
    expect(answer.text).not.toBe('');
    const [dense, sparse] = rows;
    expect(dense).toMatchObject({ attention: 'dense', promptTokens: 3000, density: 1, kl: 0 });
    expect(sparse).toMatchObject({ attention: 'sinks + sliding window', promptTokens: 3000, decodeTokens: dense.decodeTokens });
    // 516 of up to 3000 keys each: 0.31 of the cells, a little more with whole blocks.
    expect(sparse.density).toBeGreaterThan(0.3);
    expect(sparse.density).toBeLessThan(0.4);
    expect(sparse.kl).toBeGreaterThan(0);
    for (const row of rows) expect(Math.min(row.firstTokenMs, row.decodeMs, row.kvBytes, row.peakRssBytes)).toBeGreaterThan(0);
  });

  it('prints the question, the answer, and one table', async () => {
    const { code, stdout } = await demo();
    expect(code).toBe(0);
    expect(stdout).toMatch(/^Is it\?\n/);
    expect(stdout).toMatch(
      /^attention over the prompt +first token +decode tokens\/s +density +KV cache +peak memory +KL to dense$/m,
    );
    expect(stdout).toMatch(/^dense .* 100 % .* 0$/m);
    expect(stdout).toMatch(/^sinks \+ sliding window .* % /m);
  });

  it('names every place where the model was looked for when none has it', async () => {
    const { code, stderr } = await runProcess(['demo'], {
      env: { FILIGREE_CACHE: folder.path, FILIGREE_OFFLINE: '1' },
    });
    expect(code).toBe(1);
    expect(stderr).toMatch(/^filigree: MODEL_NOT_FOUND: /);
    for (const source of ['path', 'cache', 'hub', 'pip']) expect(stderr).toMatch(new RegExp(`^  ${source}: `, 'm'));
  });
});
