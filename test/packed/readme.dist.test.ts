import { transform } from 'esbuild';
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, inject, it } from 'vitest';
import { firstExample } from './support/examples.js';

const root = fileURLToPath(new URL('../..', import.meta.url));
const { folder, tarballs } = inject('installed');
const libraries = Object.keys(tarballs).filter((name) => name !== 'filigree');
const readmeOf = (name: string): string => join(root, name.replace('@filigree/', 'packages/'), 'README.md');
const fileOf = (name: string): string => `${name.replace('@filigree/', '')}-example`;

describe('the first example of every README', () => {
  it.each(libraries)('of %s runs and prints what it says', async (name) => {
    const { source, output } = firstExample(readmeOf(name));
    const { code } = await transform(source, { loader: 'ts', format: 'esm', target: 'node20' });
    const file = join(folder, `${fileOf(name)}.mjs`);
    writeFileSync(file, code);
    const printed = execFileSync(process.execPath, [file], { cwd: folder, encoding: 'utf8' });
    // An object that does not fit a line is printed over several.
    const lines = printed.replaceAll(/\s+/g, ' ');
    expect(
      output.filter((said) => !lines.includes(said.replaceAll(/\s+/g, ' '))),
      `printed: ${printed}`,
    ).toEqual([]);
  });

  it('type-checks against the published declarations', () => {
    const sources = join(folder, 'examples');
    mkdirSync(sources, { recursive: true });
    for (const name of libraries) writeFileSync(join(sources, `${fileOf(name)}.ts`), firstExample(readmeOf(name)).source);
    const compilerOptions = { strict: true, noEmit: true, skipLibCheck: true, target: 'es2023', module: 'nodenext', types: [] };
    writeFileSync(join(sources, 'tsconfig.json'), JSON.stringify({ compilerOptions }));
    execFileSync(join(root, 'node_modules/.bin/tsc'), ['-p', sources], { stdio: 'inherit' });
  });
});

describe('the tables of the documentation', () => {
  it('are those of the built packages', () => {
    execFileSync(process.execPath, ['scripts/readme-tables.mjs', '--check'], { cwd: root, stdio: 'inherit' });
  });
});
