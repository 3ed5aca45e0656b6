import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { ModelFolder } from './support/models.js';
import { run } from './support/run.js';

const folder = new ModelFolder();
const cache = join(folder.path, 'cache');
const env = { FILIGREE_CACHE: cache };

afterAll(() => {
  folder.remove();
});

function cached(path: string, bytes: number): string {
  const file = join(cache, path);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, new Uint8Array(bytes));
  return file;
}

describe('models', () => {
  it('of an empty cache are those known by a short name', async () => {
    const { code, stdout } = await run(['models'], { env });
    expect(code).toBe(0);
    expect(stdout).toMatch(/: 0 files, 0 B$/m);
    expect(stdout).toMatch(/^smollm2-135m-instruct +98\.4 MB /m);
  });

  it('are listed with their bytes and where they came from, unfinished downloads aside', async () => {
    const hub = cached('hub/owner/name/main/model.gguf', 2_000_000);
    const pip = cached('pip/some-package==1.0/other.gguf', 500);
    cached('hub/owner/name/main/half.gguf.part', 100);
    const { code, stdout } = await run(['models', '--json'], { env });
    expect(code).toBe(0);
    const found = JSON.parse(stdout) as { directory: string; cached: unknown[] };
    expect(found.directory).toBe(cache);
    expect(found.cached).toHaveLength(2);
    expect(found.cached).toMatchObject([
      { source: 'hub', from: 'owner/name', revision: 'main', file: 'model.gguf', path: hub, bytes: 2_000_000 },
      { source: 'pip', from: 'some-package==1.0', file: 'other.gguf', path: pip, bytes: 500 },
    ]);
    const text = (await run(['models'], { env })).stdout;
    expect(text).toMatch(/: 2 files, 2\.00 MB$/m);
    expect(text).toMatch(/^owner\/name:model\.gguf +2\.00 MB +hub +main +\S+model\.gguf$/m);
  });
});
