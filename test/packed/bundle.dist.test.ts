import { build } from 'esbuild';
import { join } from 'node:path';
import { describe, expect, inject, it } from 'vitest';
import { shadersIn } from './support/shaders.js';

const { folder, tarballs } = inject('installed');
const ops = (await Promise.all(Object.keys(tarballs).map(opsOf))).flat();

/** The exports of an installed package that are ops. */
async function opsOf(name: string): Promise<{ from: string; export: string; op: string }[]> {
  const module = (await import(join(folder, 'node_modules', name, 'dist/index.js'))) as Record<string, unknown>;
  return Object.entries(module).flatMap(([key, value]) =>
    typeof value === 'function' && 'infer' in value && 'reference' in value
      ? [{ from: name, export: key, op: value.name }]
      : [],
  );
}

/** Bundles a program for the browser; its imports are the installed packages. */
async function bundle(program: string): Promise<string> {
  const { outputFiles } = await build({
    stdin: { contents: program, resolveDir: folder },
    bundle: true,
    format: 'esm',
    platform: 'browser',
    treeShaking: true,
    write: false,
    logLevel: 'silent',
  });
  return outputFiles.map(({ text }) => text).join('\n');
}

/** Names that ops state in a bundle, as in `name: "core/rms-norm"`. */
const opsIn = (text: string): string[] => [...text.matchAll(/\bname: "([a-z-]+\/[a-z0-9-]+)"/g)].map(([, name]) => name);

describe('a bundle', () => {
  it('of one op has that op and its shaders, and no other', async () => {
    const text = await bundle(`import { rmsNorm } from '@filigree/core-tensor'; globalThis.result = rmsNorm;`);
    expect(opsIn(text)).toEqual(['core/rms-norm']);
    expect(shadersIn(text).filter((name) => !name.startsWith('common/'))).toEqual(['core/rms-norm.wgsl']);
  });

  it('of everything has many ops and shaders: the checks of the others can fail', async () => {
    const text = await bundle(`import * as all from '@filigree/core-tensor'; globalThis.result = { ...all };`);
    expect(opsIn(text).length).toBeGreaterThan(20);
    expect(shadersIn(text)).toContain('core/softmax.wgsl');
  });

  it.each(ops)('of $export has no other op than $op', async ({ from, export: name, op }) => {
    const text = await bundle(`import { ${name} } from '${from}'; globalThis.result = ${name};`);
    expect(opsIn(text)).toEqual([op]);
  });
});
