import { tinyModel } from '@filigree/testing';
import { execFile } from 'node:child_process';
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { bundleCli, nativeAddon } from './support/run.js';

const folder = mkdtempSync(join(tmpdir(), 'filigree-readme-'));
const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8');
const examples = [...readme.matchAll(/^```sh\n(.*?)^```/gms)].flatMap(([, block]) => block.trim().split('\n'));

beforeAll(async () => {
  writeFileSync(join(folder, 'model.gguf'), await tinyModel());
  const program = join(folder, 'filigree');
  writeFileSync(program, `#!/bin/sh\nexec "${process.execPath}" "${await bundleCli()}" "$@"\n`);
  chmodSync(program, 0o755);
});

afterAll(() => {
  rmSync(folder, { recursive: true });
});

describe('every example of the README runs', () => {
  it('there are examples', () => {
    expect(examples.length).toBeGreaterThanOrEqual(12);
  });

  it.each(examples)('%s', async (example) => {
    const { stdout } = await promisify(execFile)('/bin/sh', ['-ec', example], {
      cwd: folder,
      env: {
        ...process.env,
        PATH: `${folder}${delimiter}${process.env.PATH ?? ''}`,
        FILIGREE_NATIVE_ADDON: nativeAddon,
        FILIGREE_CACHE: join(folder, 'cache'),
      },
    });
    const file = /> (\S+)$/.exec(example)?.[1];
    const output = file === undefined ? stdout : readFileSync(join(folder, file), 'utf8');
    expect(output).not.toBe('');
    if (example.includes('--json')) expect(JSON.parse(output)).toBeTypeOf('object');
  });
});
