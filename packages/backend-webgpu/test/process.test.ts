import { bundle, bundleFolder, useSoftwareGpu } from '@filigree/testing';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';

/** Runs a module that imports the packages in a Node process of its own, from `folder`. */
async function runModule(
  source: string,
  folder: string,
  env: Record<string, string> = {},
): Promise<{ status: number | null; output: string }> {
  useSoftwareGpu();
  const file = join(folder, `process-test-${process.pid}.mjs`);
  writeFileSync(file, await bundle(source, { platform: 'node', external: ['webgpu'] }));
  try {
    const run = spawnSync(process.execPath, [file], { encoding: 'utf8', timeout: 60_000, env: { ...process.env, ...env } });
    return { status: run.status, output: run.stdout + run.stderr };
  } finally {
    rmSync(file);
  }
}

const create = `
import { createWebGpuBackend } from '@filigree/backend-webgpu';
import { add, fromArray } from '@filigree/core-tensor';
`;
const report = `${create}
try {
  await createWebGpuBackend();
  console.log('made');
} catch (error) {
  console.log(error.code, error.message);
}`;

describe('the README', () => {
  it('has an example that runs', async () => {
    const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8');
    const example = /```js\n(.*?)```/s.exec(readme)?.[1] ?? '';
    expect(example.split('\n').length).toBeLessThan(20);
    const { status, output } = await runModule(example, bundleFolder);
    expect(output).toMatch(/Float32Array\(4\) \[/);
    expect(status).toBe(0);
  });
});

describe('a Node process with the WebGPU backend', () => {
  it('exits by itself with code 0 without dispose', async () => {
    const source = `${create}
      const backend = await createWebGpuBackend();
      const x = fromArray(backend, [1, 2, 3], [3]);
      globalThis.kept = { backend, x };
      console.log([...(await add(x, x).readNumbers())].join());`;
    expect(await runModule(source, bundleFolder)).toEqual({ status: 0, output: '2,4,6\n' });
  });

  it('exits with code 0 after dispose', async () => {
    const source = `${create}
      const backend = await createWebGpuBackend();
      const x = fromArray(backend, [1, 2, 3], [3]);
      add(x, x);
      backend.dispose();
      console.log('done');`;
    expect(await runModule(source, bundleFolder)).toEqual({ status: 0, output: 'done\n' });
  });

  it('says which package to install where Node has no WebGPU', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'filigree-'));
    const { status, output } = await runModule(report, folder);
    rmSync(folder, { recursive: true });
    expect(output).toMatch(/BACKEND_UNAVAILABLE .*npm install webgpu/);
    expect(status).toBe(0);
  });

  it('says what is missing where there is no adapter', async () => {
    const { status, output } = await runModule(report, bundleFolder, { VK_ICD_FILENAMES: '/nowhere.json' });
    expect(output).toMatch(/BACKEND_UNAVAILABLE .*no GPU adapter/);
    expect(status).toBe(0);
  });
});
