import { runInChild } from '@filigree/testing';
import { describe, expect, it } from 'vitest';

const work = `
  import { createNativeBackend } from '@filigree/backend-native';
  import { add, fromArray, matmul, empty } from '@filigree/core-tensor';
  const backend = createNativeBackend({ threads: 2 });
  const x = fromArray(backend, [1, 2], [2]);
`;

describe('a process that uses the native backend', () => {
  it('ends by itself with code 0, without dispose', async () => {
    const { code, stdout, stderr } = await runInChild(`${work} console.log(String(await add(x, x).read()));`);
    expect({ code, stdout, stderr }).toEqual({ code: 0, stdout: '2,4\n', stderr: '' });
  });

  it('ends by itself while work is still queued that nobody reads', async () => {
    const { code, stderr } = await runInChild(
      `${work} for (let i = 0; i < 500; i++) matmul(empty(backend, [99, 99], 'f32'), empty(backend, [99, 99], 'f32'));`,
    );
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  });

  it('does not end before a read it asked for', async () => {
    const { code, stdout } = await runInChild(`${work} void add(x, x).read().then((y) => { console.log(String(y)); });`);
    expect({ code, stdout }).toEqual({ code: 0, stdout: '2,4\n' });
  });

  it('ends after dispose with reads on the way', async () => {
    const { code, stdout } = await runInChild(
      `${work} const read = add(x, x).read(); backend.dispose(); console.log(String(await read));`,
    );
    expect({ code, stdout }).toEqual({ code: 0, stdout: '2,4\n' });
  });

  it('is told in one line when there is no addon', async () => {
    const { code, stdout } = await runInChild(
      `import { createNativeBackend } from '@filigree/backend-native';
       try { createNativeBackend(); } catch (error) { console.log(error.name, error.message); }`,
      { env: { FILIGREE_NATIVE_ADDON: undefined } },
    );
    expect(code).toBe(0);
    expect(stdout.trim().split('\n')).toHaveLength(1);
    expect(stdout).toMatch(/^BackendUnavailableError .*kernels\/native\/build\.mjs.*slower/);
  });

  it.each([
    ['a path where nothing is', '/nowhere/filigree.node'],
    ['a file that is no addon', import.meta.filename],
  ])('is told when FILIGREE_NATIVE_ADDON is %s', async (_, addon) => {
    const { code, stdout } = await runInChild(
      `import { createNativeBackend } from '@filigree/backend-native';
       try { createNativeBackend(); } catch (error) { console.log(error.name, error.message); }`,
      { env: { FILIGREE_NATIVE_ADDON: addon } },
    );
    expect(code).toBe(0);
    expect(stdout).toMatch(/^BackendUnavailableError /);
  });
});
