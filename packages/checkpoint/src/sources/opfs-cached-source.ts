import { AbortError, throwIfAborted } from '@filigree/core-tensor';
import { delay } from '../delay.js';
import { QuotaError, SourceReadError } from '../errors.js';
import type { OnDownloadProgress } from '../hub/progress.js';
import { blobSource } from './blob-source.js';
import type { ByteSource } from './byte-source.js';

/** How an {@link opfsCachedSource} fetches what it does not have yet. */
export interface OpfsCacheOptions {
  signal?: AbortSignal;
  onProgress?: OnDownloadProgress;
  /** Sent with the request, for example `authorization`. */
  headers?: Readonly<Record<string, string>>;
  /** The `fetch` to use, for tests and proxies. */
  fetch?: typeof globalThis.fetch;
}

const folderName = 'filigree';

/**
 * A file on a web server, kept in the browser's origin-private file system: fetched once, in pieces that go to disk as they come, and
 * read from there ever after. What arrives is visible only when it is complete. Tabs that want the same file fetch it once. Rejects with
 * QuotaError when the browser does not grant the space.
 */
export async function opfsCachedSource(url: string | URL, options: OpfsCacheOptions = {}): Promise<ByteSource> {
  const address = new URL(url, globalThis.location?.href);
  const label = `${address.origin}${address.pathname}`;
  const folder = await openFolder(label);
  const name = await nameOf(address);
  throwIfAborted(options.signal);
  const file = await exclusively(name, options.signal, async () => {
    const present = await completeFile(folder, name);
    if (present) return present;
    await fetchInto(folder, name, address, label, options);
    return completeFile(folder, name);
  });
  if (!file) throw new SourceReadError(`${label}: the file was removed from the browser's storage while it was fetched`);
  return blobSource(file, label);
}

/** Removes a file from the cache of {@link opfsCachedSource}; whether it was there. */
export async function removeOpfsCached(url: string | URL): Promise<boolean> {
  const address = new URL(url, globalThis.location?.href);
  const folder = await openFolder(address.pathname);
  try {
    await folder.removeEntry(await nameOf(address));
    return true;
  } catch (error) {
    if (isNamed(error, 'NotFoundError')) return false;
    throw error;
  }
}

async function openFolder(label: string): Promise<FileSystemDirectoryHandle> {
  const storage: Partial<StorageManager> | undefined = globalThis.navigator?.storage;
  if (!storage?.getDirectory)
    throw new SourceReadError(
      `${label}: there is no origin-private file system here (it needs a browser and https or localhost); use httpSource(url)`,
    );
  const root = await storage.getDirectory();
  return root.getDirectoryHandle(folderName, { create: true });
}

/** A name that any address fits into. */
async function nameOf(address: URL): Promise<string> {
  const digest = await crypto.subtle.digest(
    'SHA-256',
    new TextEncoder().encode(`${address.origin}${address.pathname}${address.search}`),
  );
  const hex = [...new Uint8Array(digest, 0, 16)].map((byte) => byte.toString(16).padStart(2, '0')).join('');
  const end = address.pathname.slice(address.pathname.lastIndexOf('/') + 1).replace(/[^\w.-]/g, '_');
  return `${hex}-${end.slice(-100)}`;
}

async function exclusively<T>(name: string, signal: AbortSignal | undefined, action: () => Promise<T>): Promise<T> {
  try {
    return await navigator.locks.request(`${folderName}/${name}`, signal ? { signal } : {}, action);
  } catch (error) {
    // The lock rejects with the reason of the signal itself.
    if (signal?.aborted && !(error instanceof AbortError)) throw new AbortError(undefined, { cause: error });
    throw error;
  }
}

/** An empty file is one whose download did not end. */
async function completeFile(folder: FileSystemDirectoryHandle, name: string): Promise<File | undefined> {
  try {
    const file = await (await folder.getFileHandle(name)).getFile();
    return file.size > 0 ? file : undefined;
  } catch (error) {
    if (isNamed(error, 'NotFoundError')) return undefined;
    throw error;
  }
}

async function fetchInto(
  folder: FileSystemDirectoryHandle,
  name: string,
  address: URL,
  label: string,
  { fetch = globalThis.fetch, headers = {}, signal, onProgress }: OpfsCacheOptions,
): Promise<void> {
  const reach = async <T>(action: Promise<T>): Promise<T> => {
    try {
      return await action;
    } catch (cause) {
      throwIfAborted(signal);
      throw new SourceReadError(`${label}: the server cannot be reached, or the connection broke`, { cause });
    }
  };
  const response = await reach(fetch(address, { headers, ...(signal ? { signal } : {}) }));
  if (!response.ok || !response.body) {
    await response.body?.cancel();
    throw new SourceReadError(`${label}: the server answered ${response.status} ${response.statusText}`.trimEnd());
  }
  const length = response.headers.get('content-length');
  const total = length === null ? undefined : Number(length);
  const reader = response.body.getReader();
  try {
    const free = await freeBytes();
    if (total !== undefined && free !== undefined && total > free) throw new QuotaError(label, total, free);
    await storing(label, total, async () => {
      const handle = await folder.getFileHandle(name, { create: true });
      // Bytes go to a hidden file that takes the place of this one on close().
      const writable = await handle.createWritable();
      try {
        let done = 0;
        for (;;) {
          const piece = (await reach(reader.read())).value;
          if (!piece) break;
          await writable.write(piece);
          done += piece.byteLength;
          onProgress?.({
            phase: 'download',
            file: label,
            doneBytes: done,
            ...(total === undefined ? {} : { totalBytes: total }),
          });
          throwIfAborted(signal);
        }
        if (total !== undefined && done < total)
          throw new SourceReadError(`${label}: the connection ended after ${done} of ${total} bytes`);
        if (done === 0) throw new SourceReadError(`${label}: the server sent an empty file`);
        await writable.close();
      } catch (error) {
        await writable.abort().catch(() => undefined);
        throw error;
      }
    });
  } catch (error) {
    await reader.cancel().catch(() => undefined);
    await removeReleased(folder, name);
    throw error;
  }
}

/** Removes what is left of a download. The browser may release an aborted writer's lock a moment after `abort()` has resolved. */
async function removeReleased(folder: FileSystemDirectoryHandle, name: string): Promise<void> {
  for (let wait = 1; wait <= 512; wait *= 2) {
    try {
      await folder.removeEntry(name);
      return;
    } catch (error) {
      if (!isNamed(error, 'NoModificationAllowedError')) return;
      await delay(wait);
    }
  }
}

/** Names a refusal of the storage. */
async function storing(label: string, total: number | undefined, action: () => Promise<void>): Promise<void> {
  try {
    await action();
  } catch (cause) {
    if (isNamed(cause, 'QuotaExceededError')) throw new QuotaError(label, total, await freeBytes(), { cause });
    throw cause;
  }
}

async function freeBytes(): Promise<number | undefined> {
  const { quota, usage } = await navigator.storage.estimate();
  return quota === undefined || usage === undefined ? undefined : Math.max(0, quota - usage);
}

function isNamed(error: unknown, name: string): boolean {
  return error instanceof Error && error.name === name;
}
