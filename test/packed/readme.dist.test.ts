import { transform } from 'esbuild';
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, inject, it } from 'vitest';
import { useSoftwareGpu } from '../../internal/testing/src/software-gpu.js';
import { examples, withModel } from './support/examples.js';

const root = fileURLToPath(new URL('../..', import.meta.url));
const { folder, tarballs, model } = inject('installed');

/** The first example of every library, and every example of the README of the repository, by the name of a file. */
const libraries = Object.keys(tarballs).filter((name) => name !== 'filigree');
const readmeOf = (name: string): string => join(root, name.replace('@filigree/', 'packages/'), 'README.md');
const all = [
  ...libraries.flatMap((name) =>
    examples(readmeOf(name))
      .slice(0, 1)
      .map((example) => ({ name, ...example })),
  ),
  ...examples(join(root, 'README.md')).map((example, index) => ({ name: `filigree-${index + 1}`, ...example })),
].map((example) => ({ ...example, file: `${example.name.replace('@filigree/', '')}-example` }));

// The examples of backend-webgpu run in Node as well, on the device that all tests use.
useSoftwareGpu();

describe('examples of the READMEs', () => {
  it.each(libraries)('%s has one', (name) => {
    expect(all.map((example) => example.name)).toContain(name);
  });

  it.each(all)('$name: runs and prints what it says', async ({ source, output, file }) => {
    const { code } = await transform(withModel(source, model), { loader: 'ts', format: 'esm', target: 'node20' });
    // In a folder of its own: examples may write files.
    const cwd = join(folder, file);
    mkdirSync(cwd);
    writeFileSync(join(cwd, 'example.mjs'), code);
    const printed = execFileSync(process.execPath, ['example.mjs'], { cwd, encoding: 'utf8' });
    // An object that does not fit a line is printed over several.
    const text = printed.replaceAll(/\s+/g, ' ');
    expect(
      output.filter((said) => !text.includes(said.replaceAll(/\s+/g, ' '))),
      `printed: ${printed}`,
    ).toEqual([]);
  });

  it.each(all)('$name: has at most 15 lines', ({ source }) => {
    expect(source.split('\n').filter((line) => line.trim() !== '').length).toBeLessThanOrEqual(15);
  });

  it('type-check against the published declarations', () => {
    const sources = join(folder, 'examples');
    mkdirSync(sources, { recursive: true });
    for (const { file, source } of all) writeFileSync(join(sources, `${file}.ts`), `${source}\nexport {};\n`);
    const compilerOptions = {
      strict: true,
      noEmit: true,
      skipLibCheck: true,
      target: 'es2023',
      lib: ['es2023', 'dom', 'esnext.disposable'],
      module: 'nodenext',
      types: [],
    };
    writeFileSync(join(sources, 'tsconfig.json'), JSON.stringify({ compilerOptions }));
    execFileSync(join(root, 'node_modules/.bin/tsc'), ['-p', sources], { stdio: 'inherit' });
  });
});

describe('the tables of the documentation', () => {
  it('are those of the built packages', () => {
    execFileSync(process.execPath, ['scripts/readme-tables.mjs', '--check'], { cwd: root, stdio: 'inherit' });
  });

  it('and so are the pages of the quantised formats', () => {
    execFileSync(process.execPath, ['scripts/format-pages.mjs', '--check'], { cwd: root, stdio: 'inherit' });
  });
});
