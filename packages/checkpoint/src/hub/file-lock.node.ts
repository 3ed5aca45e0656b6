import { randomUUID } from 'node:crypto';
import { link, readFile, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { delay } from '../delay.js';

/** A holder touches its lock this often. */
const heartbeatMs = 5_000;
/** A lock that was not touched for this long was left behind, wherever its holder ran. */
const staleMs = 30_000;
const pollMs = 100;

/** Runs `action` while holding the lock file `path`; waits for other processes, and takes over a lock whose holder died. */
export async function withFileLock<T>(path: string, signal: AbortSignal | undefined, action: () => Promise<T>): Promise<T> {
  const release = await acquire(path, signal);
  try {
    return await action();
  } finally {
    await release();
  }
}

async function acquire(path: string, signal: AbortSignal | undefined): Promise<() => Promise<void>> {
  const own = JSON.stringify({ pid: process.pid, host: hostname(), id: randomUUID() });
  for (;;) {
    try {
      await writeFile(path, own, { flag: 'wx' });
      const heartbeat = setInterval(() => {
        const now = new Date();
        utimes(path, now, now).catch(() => undefined);
      }, heartbeatMs);
      heartbeat.unref();
      return async () => {
        clearInterval(heartbeat);
        // After a sleep of the machine it may be another's by now.
        if ((await textOf(path)) === own) await rm(path, { force: true });
      };
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error;
    }
    const stale = await staleText(path);
    if (stale === undefined) await delay(pollMs, signal);
    else await takeAway(path, stale);
  }
}

/** What a lock file holds whose holder is gone; undefined when it is in use. */
async function staleText(path: string): Promise<string | undefined> {
  const info = await stat(path).catch(() => undefined);
  const text = await textOf(path);
  if (!info || text === undefined) return undefined;
  if (Date.now() - info.mtimeMs > staleMs) return text;
  const holder = holderOf(text);
  return holder !== undefined && holder.host === hostname() && !isAlive(holder.pid) ? text : undefined;
}

function textOf(path: string): Promise<string | undefined> {
  return readFile(path, 'utf8').catch(() => undefined);
}

/** Undefined while the holder is still writing it. */
function holderOf(text: string): { pid: number; host: string } | undefined {
  try {
    const value: unknown = JSON.parse(text);
    if (value && typeof value === 'object' && 'pid' in value && 'host' in value)
      return { pid: Number(value.pid), host: String(value.host) };
  } catch {
    // Not written yet.
  }
  return undefined;
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM';
  }
}

/** Removes a stale lock. Renaming succeeds for one of several that found it; who finds to have taken a newer one puts it back. */
async function takeAway(path: string, stale: string): Promise<void> {
  const aside = `${path}.stale-${randomUUID()}`;
  const moved = await rename(path, aside).then(
    () => true,
    () => false,
  );
  if (!moved) return;
  if ((await textOf(aside)) !== stale) await link(aside, path).catch(() => undefined);
  await rm(aside, { force: true });
}
