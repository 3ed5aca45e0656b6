import { open, type FileHandle } from 'node:fs/promises';
import { resolve } from 'node:path';
import { throwIfAborted } from '@filigree/core-tensor';
import { SourceReadError } from '../errors.js';
import { assertRange, type ByteSource } from './byte-source.js';

/** Closes the handles of sources that were dropped without `close()`. */
const dropped = new FinalizationRegistry<FileHandle>((handle) => {
  handle.close().catch(() => undefined);
});

/** A local file, read positionally and never mapped by the source itself. `path` is absolute. */
export async function fileSource(path: string): Promise<ByteSource> {
  const absolute = resolve(path);
  let handle: FileHandle;
  try {
    handle = await open(absolute, 'r');
  } catch (cause) {
    throw new SourceReadError(`${path}: the file cannot be opened (${reasonOf(cause)})`, { cause });
  }
  const stat = await handle.stat();
  if (!stat.isFile()) {
    await handle.close();
    throw new SourceReadError(`${path}: not a regular file`);
  }
  const source: ByteSource = {
    size: stat.size,
    name: path,
    path: absolute,
    async read(offset, length, signal) {
      throwIfAborted(signal);
      assertRange(source, offset, length);
      const bytes = new Uint8Array(length);
      let filled = 0;
      while (filled < length) {
        const bytesRead = await readAt(handle, bytes, filled, offset + filled, path);
        if (bytesRead === 0)
          throw new SourceReadError(`${path}: the file ends at ${offset + filled}; it was ${stat.size} bytes when opened`);
        filled += bytesRead;
        throwIfAborted(signal);
      }
      return bytes;
    },
    async close() {
      dropped.unregister(source);
      await handle.close();
    },
  };
  dropped.register(source, handle, source);
  return source;
}

async function readAt(handle: FileHandle, bytes: Uint8Array, start: number, position: number, path: string): Promise<number> {
  try {
    return (await handle.read(bytes, start, bytes.byteLength - start, position)).bytesRead;
  } catch (cause) {
    throw new SourceReadError(`${path}: reading at ${position} failed (${reasonOf(cause)})`, { cause });
  }
}

function reasonOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : String(error);
}
