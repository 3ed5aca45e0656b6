import { open, rename, rm, type FileHandle } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { SinkWriteError } from '../errors.js';
import type { ByteSink } from './byte-sink.js';

let serial = 0;

/**
 * A local file. Bytes go to a temporary file beside it, which is flushed to disk and renamed on `close()`: a crash or a full disk
 * leaves the file as it was.
 */
export async function fileSink(path: string): Promise<ByteSink> {
  const target = resolve(path);
  const temporary = `${target}.${process.pid}.${serial++}.tmp`;
  const attempt = async <T>(what: string, action: () => Promise<T>): Promise<T> => {
    try {
      return await action();
    } catch (cause) {
      const code = cause instanceof Error && 'code' in cause ? String(cause.code) : String(cause);
      const advice = code === 'ENOSPC' ? '; free some space and write again' : '';
      throw new SinkWriteError(`${path}: ${what} failed (${code})${advice}`, { cause });
    }
  };
  let handle: FileHandle | undefined = await attempt('opening', () => open(temporary, 'wx'));
  const current = (): FileHandle => {
    if (!handle) throw new SinkWriteError(`${path}: the sink was closed already`);
    return handle;
  };
  return {
    name: path,
    async write(bytes) {
      const file = current();
      await attempt('writing', async () => {
        for (let done = 0; done < bytes.byteLength;) done += (await file.write(bytes, done)).bytesWritten;
      });
    },
    async close() {
      const file = current();
      await attempt('flushing', () => file.sync());
      handle = undefined;
      await file.close();
      await attempt('renaming', () => rename(temporary, target));
      await syncDirectory(dirname(target));
    },
    async abort() {
      const file = handle;
      handle = undefined;
      await file?.close();
      await rm(temporary, { force: true });
    },
  };
}

/** Makes the rename itself durable. Not every platform can open a directory; there the rename is as durable as it gets. */
async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, 'r').catch(() => undefined);
  await directory?.sync().catch(() => undefined);
  await directory?.close();
}
