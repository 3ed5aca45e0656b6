import { open, readFile, rename, rm, stat, utimes } from 'node:fs/promises';
import { hostname } from 'node:os';
import { delay } from '../delay.js';

/** A holder touches its lock this often. */
const heartbeatMs = 5_000;
/** A lock that was not touched for this long was left behind, wherever its holder ran. */
const staleMs = 30_000;
const pollMs = 100;

let serial = 0;

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
  for (;;) {
    try {
      const handle = await open(path, 'wx');
      await handle.writeFile(JSON.stringify({ pid: process.pid, host: hostname() }));
      await handle.close();
      const heartbeat = setInterval(() => {
        const now = new Date();
        utimes(path, now, now).catch(() => undefined);
      }, heartbeatMs);
      heartbeat.unref();
      return async () => {
        clearInterval(heartbeat);
        await rm(path, { force: true });
      };
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error;
    }
    if (await isStale(path)) await takeAway(path);
    else await delay(pollMs, signal);
  }
}

async function isStale(path: string): Promise<boolean> {
  const info = await stat(path).catch(() => undefined);
  if (!info) return false;
  if (Date.now() - info.mtimeMs > staleMs) return true;
  const holder = await readFile(path, 'utf8').then(holderOf, () => undefined);
  return holder !== undefined && holder.host === hostname() && !isAlive(holder.pid);
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

/** Renaming succeeds for one of several that found the lock stale. */
async function takeAway(path: string): Promise<void> {
  const aside = `${path}.stale-${process.pid}-${serial++}`;
  const moved = await rename(path, aside).then(
    () => true,
    () => false,
  );
  if (moved) await rm(aside, { force: true });
}
