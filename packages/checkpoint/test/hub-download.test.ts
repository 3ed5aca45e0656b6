import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import type { ServerResponse } from 'node:http';
import { dirname, join } from 'node:path';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { AbortError } from '@filigree/core-tensor';
import { hubDownload, hubUrl, type DownloadProgress, type HubDownloadOptions } from '@filigree/checkpoint';
import { downloadHubFile, type HubTuning } from '../src/hub/hub-download.node.js';
import { FakeHub } from './lib/fake-hub.js';
import { closedAddress, sendFile, serve } from './lib/file-server.js';
import { temporaryFolder } from './lib/temporary-folder.js';

const repo = 'owner/model-GGUF';
const file = 'model.Q4_1.gguf';
const content = Uint8Array.from({ length: 300_000 }, (_, index) => (index * 31) % 253);
const sha256 = createHash('sha256').update(content).digest('hex');
const impatient: HubTuning = { backoffMs: 1, retries: 3, stallMs: 2_000 };

async function setUp(): Promise<{ hub: FakeHub; options: HubDownloadOptions; path: string }> {
  const hub = await FakeHub.start();
  hub.put(repo, file, content);
  const cacheDir = await temporaryFolder();
  const options = { repo, file, cacheDir, endpoint: hub.endpoint, token: '', offline: false };
  return { hub, options, path: join(cacheDir, 'hub', repo, 'main', file) };
}

/** What is in the folder of the file, the file included. */
async function leftovers(path: string): Promise<string[]> {
  return (await readdir(dirname(path))).map((name) => name.replace(file, 'FILE')).sort();
}

/** A connection that ends when the client has got as many bytes as were sent: it may drop what it has not read by then. */
function breakingConnection() {
  let until = Infinity;
  let sending: ServerResponse | undefined;
  return {
    /** Sends `bytes` of the rest from `start`, as if all of it were to come. */
    send(response: ServerResponse, bytes: number, start = 0): void {
      const rest = content.subarray(start);
      response.writeHead(start > 0 ? 206 : 200, {
        'content-length': String(rest.byteLength),
        etag: '"cdn"',
        ...(start > 0 ? { 'content-range': `bytes ${start}-${content.byteLength - 1}/${content.byteLength}` } : {}),
      });
      response.write(rest.subarray(0, bytes));
      until = start + bytes;
      sending = response;
    },
    onProgress({ phase, doneBytes }: DownloadProgress): void {
      if (phase === 'download' && doneBytes === until) sending?.destroy();
    },
  };
}

afterEach(() => {
  vi.unstubAllEnvs();
});

describe('a download', () => {
  it('puts the file into the cache, and the next one returns it without a request', async () => {
    const { hub, options, path } = await setUp();
    const progress: DownloadProgress[] = [];
    expect(await hubDownload({ ...options, onProgress: (step) => progress.push(step) })).toBe(path);
    expect((await readFile(path)).equals(content)).toBe(true);
    expect(await leftovers(path)).toEqual(['FILE']);
    for (const phase of ['download', 'verify'] as const) {
      const steps = progress.filter((step) => step.phase === phase);
      expect(steps.at(-1)).toEqual({ phase, file, doneBytes: content.byteLength, totalBytes: content.byteLength });
      expect(steps.map(({ doneBytes }) => doneBytes)).toEqual(steps.map(({ doneBytes }) => doneBytes).sort((a, b) => a - b));
    }
    const { length } = hub.requests;
    expect(await hubDownload(options)).toBe(path);
    expect(await hubDownload({ ...options, offline: true })).toBe(path);
    expect(hub.requests).toHaveLength(length);
  });

  it('takes small files, which the Hub sends itself, and folders in the repository', async () => {
    const { hub, options } = await setUp();
    hub.put(repo, 'sub/config.json', '{"a":1}', { large: false });
    const path = await hubDownload({ ...options, file: 'sub/config.json' });
    expect(path.endsWith(join('main', 'sub', 'config.json'))).toBe(true);
    expect(await readFile(path, 'utf8')).toBe('{"a":1}');
  });

  it('keeps revisions apart', async () => {
    const { hub, options } = await setUp();
    hub.put(repo, file, 'of a branch', { revision: 'refs/pr/1' });
    hub.intercept = (request, response, path) => {
      // The Hub takes the slashes of a revision escaped.
      if (path.includes('refs/pr/1')) sendFile(request, response, new TextEncoder().encode('of a branch'));
      return path.includes('refs/pr/1');
    };
    const branch = await hubDownload({ ...options, revision: 'refs/pr/1' });
    const main = await hubDownload(options);
    expect(await readFile(branch, 'utf8')).toBe('of a branch');
    expect((await stat(main)).size).toBe(content.byteLength);
  });

  it('follows a repository that was renamed', async () => {
    const { hub, options, path } = await setUp();
    hub.put('new/name', file, content);
    hub.intercept = (request, response, at) => {
      if (!at.startsWith(`/${repo}/`)) return false;
      response.writeHead(307, { location: (request.url ?? '').replace(repo, 'new/name') }).end();
      return true;
    };
    expect(await hubDownload(options)).toBe(path);
    expect((await readFile(path)).equals(content)).toBe(true);
  });
});

describe('an interrupted download', () => {
  it('goes on where the connection broke', async () => {
    const { hub, options, path } = await setUp();
    const cuts = [100_000, 50_000];
    const connection = breakingConnection();
    hub.intercept = (request, response, at) => {
      const bytes = at.startsWith('/cdn/') ? cuts.shift() : undefined;
      if (bytes === undefined) return false;
      connection.send(response, bytes, Number(/\d+/.exec(request.headers.range ?? '0')?.[0]));
      return true;
    };
    await downloadHubFile({ ...options, onProgress: connection.onProgress }, impatient);
    expect((await readFile(path)).equals(content)).toBe(true);
    expect(hub.transfers().map(({ range }) => range)).toEqual([undefined, 'bytes=100000-', 'bytes=150000-']);
  });

  it('goes on later where an abort stopped it', async () => {
    const { hub, options, path } = await setUp();
    const controller = new AbortController();
    const stopping = { ...options, signal: controller.signal, onProgress: () => controller.abort() };
    hub.intercept = (_, response, at) => {
      if (!at.startsWith('/cdn/')) return false;
      response.writeHead(200, { 'content-length': String(content.byteLength), etag: '"cdn"' });
      response.write(content.subarray(0, 100_000));
      return true;
    };
    await expect(downloadHubFile(stopping, impatient)).rejects.toThrow(AbortError);
    const kept = (await stat(`${path}.part`)).size;
    expect(kept).toBeGreaterThan(0);
    expect(await leftovers(path)).toEqual(['FILE.part', 'FILE.part.json']);
    hub.intercept = () => false;
    hub.requests.length = 0;
    await hubDownload(options);
    expect(hub.transfers().map(({ range }) => range)).toEqual([`bytes=${kept}-`]);
    expect((await readFile(path)).equals(content)).toBe(true);
    expect(await leftovers(path)).toEqual(['FILE']);
  });

  it('goes on when the server fell silent', async () => {
    const { hub, options, path } = await setUp();
    let silent = true;
    hub.intercept = (_, response, at) => {
      if (!at.startsWith('/cdn/') || !silent) return false;
      silent = false;
      response.writeHead(200, { 'content-length': String(content.byteLength) });
      response.write(content.subarray(0, 1000));
      return true;
    };
    await downloadHubFile(options, { ...impatient, stallMs: 100 });
    expect((await readFile(path)).equals(content)).toBe(true);
    expect(hub.transfers().map(({ range }) => range)).toEqual([undefined, 'bytes=1000-']);
  });

  it('starts over when the file on the Hub is another one by now', async () => {
    const { hub, options, path } = await setUp();
    await mkdir(dirname(path), { recursive: true });
    await writeFile(`${path}.part`, content.subarray(0, 1000));
    await writeFile(`${path}.part.json`, JSON.stringify({ etag: '"another"', size: content.byteLength }));
    await hubDownload(options);
    expect(hub.transfers().map(({ range }) => range)).toEqual([undefined]);
    expect((await readFile(path)).equals(content)).toBe(true);
  });

  it('starts over when the server sends everything although a part was asked for', async () => {
    const { hub, options, path } = await setUp();
    let first = true;
    const connection = breakingConnection();
    hub.intercept = (_, response, at) => {
      if (!at.startsWith('/cdn/')) return false;
      if (first) connection.send(response, 5000);
      else response.writeHead(200, { 'content-length': String(content.byteLength) }).end(content);
      first = false;
      return true;
    };
    await downloadHubFile({ ...options, onProgress: connection.onProgress }, impatient);
    expect((await readFile(path)).equals(content)).toBe(true);
  });

  it.each([
    [
      'another range',
      (response: ServerResponse) => response.writeHead(206, { 'content-range': 'bytes 7-9/300000' }).end('abc'),
    ],
    ['no range', (response: ServerResponse) => response.writeHead(416).end()],
  ])('throws away what it has when the server answers it with %s', async (_, answer) => {
    const { hub, options, path } = await setUp();
    let step = 0;
    const connection = breakingConnection();
    hub.intercept = (_request, response, at) => {
      if (!at.startsWith('/cdn/') || step > 1) return false;
      if (step++ === 0) connection.send(response, 5000);
      else answer(response);
      return true;
    };
    await downloadHubFile({ ...options, onProgress: connection.onProgress }, impatient);
    expect(hub.transfers().map(({ range }) => range)).toEqual([undefined, 'bytes=5000-', undefined]);
    expect((await readFile(path)).equals(content)).toBe(true);
  });
});

describe('what arrives is checked', () => {
  it('against the SHA-256 of the Hub: wrong bytes are deleted, and the next download is not spoiled by them', async () => {
    const { hub, options, path } = await setUp();
    hub.intercept = (request, response, at) => {
      if (at.startsWith('/cdn/')) sendFile(request, response, content.slice().fill(1, 5, 6));
      return at.startsWith('/cdn/');
    };
    await expect(hubDownload(options)).rejects.toMatchObject({ code: 'HUB_CHECKSUM', kind: 'checksum' });
    expect(await leftovers(path)).toEqual([]);
    hub.intercept = () => false;
    await hubDownload(options);
    expect((await readFile(path)).equals(content)).toBe(true);
  });

  it('against a SHA-256 given, before anything is transferred where the Hub states another', async () => {
    const { hub, options, path } = await setUp();
    await expect(hubDownload({ ...options, sha256: '0'.repeat(64) })).rejects.toMatchObject({ kind: 'checksum' });
    expect(hub.transfers()).toEqual([]);
    expect(await hubDownload({ ...options, sha256: sha256.toUpperCase() })).toBe(path);
    hub.put(repo, 'small', 'x', { large: false });
    await expect(hubDownload({ ...options, file: 'small', sha256 })).rejects.toMatchObject({ kind: 'checksum' });
  });

  it('against the size announced', async () => {
    const { hub, options } = await setUp();
    hub.intercept = (_, response, at) => {
      if (at.startsWith('/cdn/')) response.writeHead(200).end(new Uint8Array(content.byteLength + 1));
      return at.startsWith('/cdn/');
    };
    await expect(downloadHubFile(options, impatient)).rejects.toMatchObject({
      kind: 'protocol',
      message: expect.stringContaining('more than the 300000 bytes it announced'),
    });
  });
});

describe('the refusals of the Hub', () => {
  it.each<[number, Record<string, string>, string, string]>([
    [404, { 'x-error-code': 'EntryNotFound' }, 'not-found', 'no such repository, revision or file (404 EntryNotFound)'],
    [404, {}, 'not-found', 'no such repository'],
    [401, { 'x-error-code': 'RepoNotFound' }, 'not-found', 'a private one needs HF_TOKEN'],
    [401, { 'x-error-code': 'GatedRepo' }, 'gated', 'accept the terms on its page'],
    [403, { 'x-error-code': 'GatedRepo' }, 'gated', 'accept the terms on its page'],
    [401, {}, 'gated', 'a token is needed'],
    [403, {}, 'gated', 'access is not granted'],
    [418, {}, 'protocol', 'the server answered 418'],
  ])('%i %o are told apart', async (status, headers, kind, message) => {
    const { hub, options, path } = await setUp();
    hub.intercept = (_, response) => {
      response.writeHead(status, headers).end();
      return true;
    };
    await expect(hubDownload(options)).rejects.toMatchObject({
      name: 'HubError',
      kind,
      message: expect.stringContaining(message),
    });
    expect(hub.requests).toHaveLength(1);
    expect(await leftovers(path)).toEqual([]);
  });

  it('that come while the bytes are sent are told apart as well', async () => {
    const { hub, options } = await setUp();
    hub.intercept = (_, response, at) => {
      if (at.startsWith('/cdn/')) response.writeHead(403).end();
      return at.startsWith('/cdn/');
    };
    await expect(hubDownload(options)).rejects.toMatchObject({ kind: 'gated' });
  });

  it('of 5xx and 429 are tried again, and named when they last', async () => {
    const { hub, options, path } = await setUp();
    const failures = [500, 429, 503];
    hub.intercept = (_, response) => {
      const status = failures.shift();
      if (status !== undefined) response.writeHead(status).end();
      return status !== undefined;
    };
    expect(await downloadHubFile(options, impatient)).toBe(path);
    const lasting = { ...options, file: 'other.gguf' };
    failures.push(502, 502, 502, 502);
    await expect(downloadHubFile(lasting, impatient)).rejects.toMatchObject({ kind: 'unreachable' });
    expect(failures).toEqual([]);
  });

  it('to answer at all are found out at once where nobody listens', async () => {
    const { options } = await setUp();
    const endpoint = await closedAddress();
    await expect(hubDownload({ ...options, endpoint })).rejects.toMatchObject({
      kind: 'unreachable',
      message: expect.stringContaining('the Hub cannot be reached (ECONNREFUSED)'),
    });
  });

  it('to answer in time are found out', async () => {
    const { hub, options } = await setUp();
    hub.intercept = () => true;
    await expect(downloadHubFile(options, { backoffMs: 1, retries: 1, stallMs: 50 })).rejects.toMatchObject({
      kind: 'unreachable',
      message: expect.stringContaining('timeout'),
    });
    expect(hub.requests).toHaveLength(2);
  });

  it('do not lead in circles', async () => {
    const { hub, options } = await setUp();
    hub.intercept = (request, response) => {
      response.writeHead(302, { location: request.url ?? '' }).end();
      return true;
    };
    await expect(hubDownload(options)).rejects.toMatchObject({ kind: 'protocol' });
  });
});

describe('the token', () => {
  it('of HF_TOKEN goes to the Hub and not to the host it redirects to', async () => {
    const { hub, options } = await setUp();
    const seenElsewhere: (string | undefined)[] = [];
    const elsewhere = await serve((request, response) => {
      seenElsewhere.push(request.headers.authorization);
      sendFile(request, response, content);
    });
    hub.intercept = (request, response) => {
      const headers = { 'x-linked-etag': `"${sha256}"`, 'x-linked-size': String(content.byteLength) };
      response.writeHead(302, { ...headers, location: `${elsewhere}${request.url ?? ''}` }).end();
      return true;
    };
    vi.stubEnv('HF_TOKEN', 'hf_secret');
    const { token: _, ...fromEnvironment } = options;
    await hubDownload(fromEnvironment);
    expect(hub.requests.map(({ authorization }) => authorization)).toEqual(['Bearer hf_secret', 'Bearer hf_secret']);
    expect(seenElsewhere).toEqual([undefined]);
  });
});

describe('a full disk', () => {
  it('is named; what came is kept, and the download goes on from there when there is space', async () => {
    const { hub, options, path } = await setUp();
    let free = 100_000;
    const write: HubTuning['write'] = async (handle, bytes, position) => {
      if (free === 0)
        throw Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC', syscall: 'write' });
      const { bytesWritten } = await handle.write(bytes, 0, Math.min(free, bytes.byteLength), position);
      free -= bytesWritten;
      return bytesWritten;
    };
    await expect(downloadHubFile(options, { ...impatient, write })).rejects.toMatchObject({
      code: 'HUB_DISK_FULL',
      kind: 'disk-full',
      message: expect.stringContaining('free some space and start again'),
    });
    expect((await stat(`${path}.part`)).size).toBe(100_000);
    expect(await leftovers(path)).toEqual(['FILE.part', 'FILE.part.json']);
    hub.requests.length = 0;
    await hubDownload(options);
    expect(hub.transfers().map(({ range }) => range)).toEqual(['bytes=100000-']);
    expect((await readFile(path)).equals(content)).toBe(true);
  });

  it('is told apart from a cache that cannot be written', async () => {
    const { options } = await setUp();
    const cacheDir = join(options.cacheDir ?? '', 'a file');
    await writeFile(cacheDir, '');
    await expect(hubDownload({ ...options, cacheDir })).rejects.toMatchObject({
      kind: 'file-system',
      message: expect.stringContaining('set FILIGREE_CACHE'),
    });
  });
});

describe('offline', () => {
  it.each(['FILIGREE_OFFLINE', 'HF_HUB_OFFLINE'])('%s=1 makes no request', async (name) => {
    const { hub, options } = await setUp();
    const { offline: _, ...fromEnvironment } = options;
    vi.stubEnv(name, '1');
    await expect(hubDownload(fromEnvironment)).rejects.toMatchObject({
      kind: 'offline',
      message: expect.stringContaining('not in the cache'),
    });
    expect(hub.requests).toEqual([]);
    vi.stubEnv(name, '0');
    await hubDownload(fromEnvironment);
  });
});

describe('downloads of one file at the same time', () => {
  it('transfer it once', async () => {
    const { hub, options, path } = await setUp();
    expect(await Promise.all(Array.from({ length: 5 }, () => hubDownload(options)))).toEqual(Array(5).fill(path));
    expect(hub.transfers()).toHaveLength(1);
    expect(await leftovers(path)).toEqual(['FILE']);
  });

  it('wait for a process that holds the lock, and can be aborted meanwhile', async () => {
    const { hub, options, path } = await setUp();
    await mkdir(dirname(path), { recursive: true });
    const { hostname } = await import('node:os');
    await writeFile(`${path}.lock`, JSON.stringify({ pid: process.ppid, host: hostname() }));
    const controller = new AbortController();
    const waiting = hubDownload({ ...options, signal: controller.signal });
    setTimeout(() => {
      controller.abort();
    }, 50);
    await expect(waiting).rejects.toThrow(AbortError);
    expect(hub.requests).toEqual([]);
    expect(await leftovers(path)).toEqual(['FILE.lock']);
  });
});

it('refuses names that lead out of the cache or of the repository', async () => {
  const { hub, options } = await setUp();
  for (const wrong of ['..', 'a/b/c', 'a', '/a', 'a/..', 'a b/c', 'https://x/y'])
    await expect(hubDownload({ ...options, repo: wrong }), wrong).rejects.toMatchObject({ code: 'OPTION' });
  for (const wrong of ['', '../x', 'a/../../b', '/etc/passwd', 'a//b', 'a\\b', 'C:x', 'a\u0000', '.'])
    await expect(hubDownload({ ...options, file: wrong }), wrong).rejects.toMatchObject({ code: 'OPTION' });
  for (const wrong of ['', '..', '../x', 'a b', '-x'])
    await expect(hubDownload({ ...options, revision: wrong }), wrong).rejects.toMatchObject({ code: 'OPTION' });
  expect(hub.requests).toEqual([]);
});

it('builds the address of a file', () => {
  expect(hubUrl({ repo: 'o/n', file: 'a b/c.gguf' })).toBe('https://huggingface.co/o/n/resolve/main/a%20b/c.gguf');
  expect(hubUrl({ repo: 'o/n', file: 'x', revision: 'refs/pr/1', endpoint: 'https://mirror.example/' })).toBe(
    'https://mirror.example/o/n/resolve/refs%2Fpr%2F1/x',
  );
});
