import { execFile } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { bundle } from '@filigree/testing';
import { expect, it } from 'vitest';
import { ggufTypes, knownModels } from '@filigree/checkpoint';
import { temporaryFolder } from './lib/temporary-folder.js';

const readme = await readFile(fileURLToPath(new URL('../README.md', import.meta.url)), 'utf8');

it('has an example of at most 15 lines that runs and prints what it says', async () => {
  const example = /```ts\n([\s\S]*?)```/.exec(readme)?.[1] ?? '';
  expect(example.trim().split('\n').length).toBeLessThanOrEqual(15);
  const folder = await temporaryFolder();
  await writeFile(join(folder, 'example.mjs'), await bundle(example, { platform: 'node', external: ['yauzl'] }));
  const said = [...example.matchAll(/console\.log\(.*\/\/ (.*)$/gm)].map(([, text]) => text);
  expect(said.length).toBeGreaterThanOrEqual(2);
  // yauzl is imported from where the package finds it.
  const modules = fileURLToPath(new URL('../node_modules', import.meta.url));
  const script = (await readFile(join(folder, 'example.mjs'), 'utf8')).replace(
    /from\s*"yauzl"/g,
    `from ${JSON.stringify(join(modules, 'yauzl/index.js'))}`,
  );
  await writeFile(join(folder, 'example.mjs'), script);
  const { stdout } = await promisify(execFile)(process.execPath, ['example.mjs'], { cwd: folder });
  expect(stdout.trim().split('\n')).toEqual(said);
});

it('names every known model and the families of the element types', () => {
  for (const { id } of knownModels) expect(readme).toContain(id);
  for (const type of Object.keys(ggufTypes).filter((name) => /^(?:B?F|MX|NV)/.test(name))) expect(readme).toContain(type);
});
