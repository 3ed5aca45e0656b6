import { spawn, type ChildProcess } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const script = fileURLToPath(new URL('../serve.mjs', import.meta.url));

/** Runs the server; its process and the first thing it says. */
async function serve(...options: string[]): Promise<{ child: ChildProcess; said: string }> {
  const child = spawn(process.execPath, [script, ...options], { stdio: ['ignore', 'pipe', 'pipe'] });
  const said = await new Promise<string>((resolve) => {
    for (const stream of [child.stdout, child.stderr]) stream.once('data', (data: Buffer) => resolve(data.toString()));
  });
  return { child, said };
}

/** As fetch, but the path goes out as it is. */
function get(origin: string, path: string, method = 'GET'): Promise<{ status: number; type: string; body: string }> {
  const { hostname, port } = new URL(origin);
  return new Promise((resolve, reject) => {
    const sent = request({ host: hostname, port, path, method }, (response) => {
      let body = '';
      response.on('data', (data: Buffer) => (body += data.toString()));
      response.on('end', () =>
        resolve({ status: response.statusCode ?? 0, type: response.headers['content-type'] ?? '', body }),
      );
    });
    sent.on('error', reject).end();
  });
}

describe('serve', () => {
  let folder: string;
  let child: ChildProcess;
  let origin: string;

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'filigree-serve-'));
    await mkdir(join(folder, 'site'));
    await writeFile(join(folder, 'secret.txt'), 'secret');
    await writeFile(join(folder, 'site', 'index.html'), 'page');
    await writeFile(join(folder, 'site', 'main.js'), 'script');
    const served = await serve('--port', '0', '--folder', join(folder, 'site'));
    child = served.child;
    origin = served.said.trim();
  });

  afterAll(async () => {
    child.kill();
    await rm(folder, { recursive: true, force: true });
  });

  it('gives files with their types', async () => {
    expect(await get(origin, '/')).toEqual({ status: 200, type: 'text/html; charset=utf-8', body: 'page' });
    expect(await get(origin, '/main.js?v=1')).toMatchObject({ status: 200, type: 'text/javascript; charset=utf-8' });
    expect((await get(origin, '/main.js', 'HEAD')).body).toBe('');
  });

  it.each(['/../secret.txt', '/%2e%2e/secret.txt', '/..%2fsecret.txt', '/%00', '/%', '/nothing', '//secret.txt'])(
    'finds nothing at %s',
    async (path) => {
      expect((await get(origin, path)).status).toBe(404);
    },
  );

  it('takes nothing', async () => {
    expect((await get(origin, '/', 'POST')).status).toBe(405);
  });

  it('says what is wrong with its options', async () => {
    const port = await serve('--port', 'x');
    expect(port.said).toContain('--port is x');
    const empty = await serve('--folder', folder);
    expect(empty.said).toContain('build the page first');
  });
});
