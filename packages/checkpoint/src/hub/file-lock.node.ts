import { randomUUID } from 'node:crypto';
import { open, readFile, rm, stat, utimes } from 'node:fs/promises';
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
      await create(path, own);
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
    if (!(await isStale(path)) || !(await takeAway(path))) await delay(pollMs, signal);
  }
}

/** Creates a file that must not be there; a disk that is too full to write into it leaves none. */
async function create(path: string, text: string): Promise<void> {
  const handle = await open(path, 'wx');
  try {
    await handle.writeFile(text);
  } catch (error) {
    await rm(path, { force: true });
    throw error;
  } finally {
    await handle.close();
  }
}

/** Whether the holder of a lock file is gone. */
async function isStale(path: string): Promise<boolean> {
  // In this order: a lock that is replaced in between has a new time.
  const text = await textOf(path);
  const info = await stat(path).catch(() => undefined);
  if (!info || text === undefined) return false;
  if (Date.now() - info.mtimeMs > staleMs) return true;
  const holder = holderOf(text);
  return holder !== undefined && holder.host === hostname() && !isAlive(holder.pid);
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

/**
 * Removes a stale lock; false when another is about to. Only who has the guard file removes one, and looks again before: otherwise the
 * second of two that found it stale would remove the lock that the first has taken since.
 */
async function takeAway(path: string): Promise<boolean> {
  const guard = `${path}.takeover`;
  try {
    await create(guard, '');
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error;
    const info = await stat(guard).catch(() => undefined);
    if (info && Date.now() - info.mtimeMs > staleMs) await rm(guard, { force: true });
    return false;
  }
  try {
    if (await isStale(path)) await rm(path, { force: true });
    return true;
  } finally {
    await rm(guard, { force: true });
  }
}
