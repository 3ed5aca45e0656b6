import { runInChild } from '@filigree/testing';
import { describe, expect, it } from 'vitest';

/** Makes tensors in a function that leaves none behind, collects garbage until `done`, and prints what is live. */
const program = (make: string): string => `
  import { createReferenceBackend, fromArray, keep, scope } from '@filigree/core-tensor';
  const backend = createReferenceBackend();
  const held = [];
  (function make() { ${make} })();
  const before = backend.memory().liveBytes;
  for (let turn = 0; turn < 50; turn++) {
    gc();
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  console.log(before, backend.memory().liveBytes);
`;

async function run(make: string, environment = 'production'): Promise<{ stdout: string; stderr: string }> {
  const { code, stdout, stderr } = await runInChild(program(make), { flags: ['--expose-gc'], env: { NODE_ENV: environment } });
  expect(code).toBe(0);
  return { stdout: stdout.trim(), stderr };
}

describe('a tensor that nobody disposed', () => {
  it('gives its memory back when it is collected, without a word in production', async () => {
    const { stdout, stderr } = await run(`for (let i = 0; i < 10; i++) fromArray(backend, [1, 2], [2]);`);
    expect(stdout).toBe('80 0');
    expect(stderr).toBe('');
  });

  it('is reported in development, once', async () => {
    const { stdout, stderr } = await run(`for (let i = 0; i < 10; i++) fromArray(backend, [1, 2], [2]);`, 'development');
    expect(stdout).toBe('80 0');
    expect(stderr.match(/dispose\(\)/g)).toHaveLength(1);
    expect(stderr).toContain('8 bytes');
  });

  it('keeps its memory as long as a view of it is held', async () => {
    expect((await run(`held.push(fromArray(backend, [1, 2], [2]).view([1]));`)).stdout).toBe('8 8');
  });

  it.each([
    ['came out of a scope', `scope(() => fromArray(backend, [1, 2], [2]));`],
    ['came out of nested scopes', `scope(() => scope(() => [fromArray(backend, [1, 2], [2])]));`],
    ['was taken out with keep', `scope(() => { keep(fromArray(backend, [1, 2], [2])); });`],
  ])('gives its memory back too when it %s', async (_, make) => {
    expect((await run(make)).stdout).toBe('8 0');
  });

  it('is nothing to report when a scope disposed it', async () => {
    const { stdout, stderr } = await run(`scope(() => { fromArray(backend, [1, 2], [2]); });`, 'development');
    expect({ stdout, stderr }).toEqual({ stdout: '0 0', stderr: '' });
  });
});
