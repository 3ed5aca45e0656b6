import { readdir, readFile, utimes, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { withFileLock } from '../src/hub/file-lock.node.js';
import { temporaryFolder } from './lib/temporary-folder.js';

async function lockPath(): Promise<{ folder: string; path: string }> {
  const folder = await temporaryFolder();
  return { folder, path: join(folder, 'x.lock') };
}

/** A process id that is not in use. */
function deadPid(): number {
  for (let pid = 2 ** 22 - 1; ; pid--) {
    try {
      process.kill(pid, 0);
    } catch {
      return pid;
    }
  }
}

it('lets one in at a time, and the next when it is done', async () => {
  const { folder, path } = await lockPath();
  let inside = 0;
  let most = 0;
  const results = await Promise.all(
    Array.from({ length: 8 }, (_, index) =>
      withFileLock(path, undefined, async () => {
        most = Math.max(most, ++inside);
        await new Promise((resolve) => setTimeout(resolve, 2));
        inside--;
        return index;
      }),
    ),
  );
  expect([most, results]).toEqual([1, [0, 1, 2, 3, 4, 5, 6, 7]]);
  expect(await readdir(folder)).toEqual([]);
});

it('is free again after a failure', async () => {
  const { path } = await lockPath();
  const failing = withFileLock(path, undefined, () => Promise.reject(new Error('no')));
  await expect(failing).rejects.toThrow('no');
  expect(await withFileLock(path, undefined, async () => 1)).toBe(1);
});

it.each<[string, () => string, number]>([
  ['a process that died', () => JSON.stringify({ pid: deadPid(), host: hostname(), id: 'x' }), 0],
  ['a process of another machine that no longer touches it', () => JSON.stringify({ pid: 1, host: 'elsewhere', id: 'x' }), 60],
  ['a process that died while writing it', () => '', 60],
])('takes over the lock of %s, once among several', async (_, text, age) => {
  for (let round = 0; round < 20; round++) {
    const { folder, path } = await lockPath();
    await writeFile(path, text());
    const then = new Date(Date.now() - age * 1000);
    await utimes(path, then, then);
    let inside = 0;
    const enter = async () => {
      expect(++inside).toBe(1);
      await new Promise((resolve) => setTimeout(resolve, 1));
      inside--;
    };
    await Promise.all(Array.from({ length: 4 }, () => withFileLock(path, undefined, enter)));
    expect(await readdir(folder)).toEqual([]);
  }
});

it.each<[string, string]>([
  ['a living process', JSON.stringify({ pid: process.ppid, host: hostname(), id: 'x' })],
  ['a process of another machine', JSON.stringify({ pid: 1, host: 'elsewhere', id: 'x' })],
  ['a process that is still writing it', ''],
])('respects the lock of %s until aborted', async (_, text) => {
  const { path } = await lockPath();
  await writeFile(path, text);
  const waiting = withFileLock(path, AbortSignal.timeout(150), () => Promise.reject(new Error('entered')));
  await expect(waiting).rejects.toMatchObject({ name: 'AbortError' });
  expect(await readFile(path, 'utf8')).toBe(text);
});

it('does not remove a lock that is another process’s by now', async () => {
  const { path } = await lockPath();
  await withFileLock(path, undefined, () => writeFile(path, 'of another'));
  expect(await readFile(path, 'utf8')).toBe('of another');
});

it('takes over a stale lock although a process died while it was about to', async () => {
  const { folder, path } = await lockPath();
  await writeFile(path, JSON.stringify({ pid: deadPid(), host: hostname(), id: 'x' }));
  await writeFile(`${path}.takeover`, '');
  const then = new Date(Date.now() - 60_000);
  await utimes(`${path}.takeover`, then, then);
  expect(await withFileLock(path, undefined, async () => 1)).toBe(1);
  expect(await readdir(folder)).toEqual([]);
});
