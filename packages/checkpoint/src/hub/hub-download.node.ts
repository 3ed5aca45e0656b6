import { mkdir, rename } from 'node:fs/promises';
import { dirname } from 'node:path';
import { throwIfAborted } from '@filigree/core-tensor';
import { HubError } from '../errors.js';
import { hubCachePath, isFile } from './cache.node.js';
import { diskFailure } from './disk.node.js';
import { withFileLock } from './file-lock.node.js';
import { describeRemote, type HubRequests } from './hub-requests.node.js';
import { assertHubNames, hubUrl } from './hub-url.js';
import type { HubDownloadOptions, HubOptions } from './options.js';
import { removePart, resumableTransfer, type Transfer } from './resumable-transfer.node.js';
import { hubSettings } from './settings.node.js';
import { sha256OfFile } from './sha256.node.js';

/** What tests turn: patience, and the disk. */
export type HubTuning = Partial<Pick<HubRequests, 'retries' | 'backoffMs' | 'stallMs'> & Pick<Transfer, 'write'>>;

/**
 * Downloads a file of a Hub repository into the cache, once, and resolves to its path. An interrupted download goes on where it
 * stopped; the size and, where the Hub states it, the SHA-256 are checked before the file gets its name; processes that want
 * the same file at the same time download it once. A branch is fetched once as well: ask for a commit to be sure of its state.
 */
export async function hubDownload(options: HubDownloadOptions): Promise<string> {
  return downloadHubFile(options, {});
}

/** {@link hubDownload} with its patience and its disk given. */
export async function downloadHubFile(options: HubDownloadOptions, tuning: HubTuning): Promise<string> {
  const { repo, file, revision = 'main', signal } = options;
  assertHubNames({ repo, file, revision });
  throwIfAborted(signal);
  const { cacheDir, endpoint, offline } = hubSettings(options);
  const what = `${repo}: ${file}`;
  const path = hubCachePath(cacheDir, { repo, file, revision });
  if (await isFile(path)) return path;
  if (offline) throw new HubError('offline', `${what}: not in the cache (${path}), and offline mode is on`);
  const url = hubUrl({ repo, file, revision, endpoint });
  try {
    await mkdir(dirname(path), { recursive: true });
    await withFileLock(`${path}.lock`, signal, async () => {
      if (!(await isFile(path))) await fetchTo(path, url, options, hubRequests(what, options, tuning), tuning);
    });
  } catch (error) {
    const disk = diskFailure(error);
    if (!disk) throw error;
    throw new HubError(
      disk.kind,
      disk.kind === 'disk-full'
        ? `${what}: the disk of ${cacheDir} is full (${disk.code}); what came so far is kept, free some space and start again`
        : `${what}: ${cacheDir} cannot be used as the cache (${disk.code}); set FILIGREE_CACHE to a folder that can be written`,
      { cause: error },
    );
  }
  return path;
}

/** The requests of one download. */
export function hubRequests(what: string, options: HubOptions, tuning: HubTuning = {}): HubRequests {
  const { token } = hubSettings(options);
  return {
    fetch: options.fetch ?? globalThis.fetch,
    headers: { 'user-agent': 'filigree', ...(token === undefined ? {} : { authorization: `Bearer ${token}` }) },
    what,
    signal: options.signal,
    retries: tuning.retries ?? 4,
    backoffMs: tuning.backoffMs ?? 500,
    stallMs: tuning.stallMs ?? 30_000,
  };
}

async function fetchTo(path: string, url: string, options: HubDownloadOptions, requests: HubRequests, tuning: HubTuning) {
  const { signal, onProgress } = options;
  const { what } = requests;
  const part = `${path}.part`;
  const remote = await describeRemote(url, requests);
  const expected = [options.sha256?.toLowerCase(), remote.sha256].filter((sum) => sum !== undefined);
  if (expected.length === 2 && expected[0] !== expected[1])
    throw new HubError('checksum', `${what}: expected SHA-256 ${expected[0]}, the Hub has ${expected[1]}`);
  await resumableTransfer({
    ...requests,
    url,
    part,
    remote,
    onBytes: (doneBytes, totalBytes) => {
      onProgress?.({ phase: 'download', file: options.file, doneBytes, ...(totalBytes === undefined ? {} : { totalBytes }) });
    },
    write:
      tuning.write ??
      (async (handle, bytes, position) => (await handle.write(bytes, 0, bytes.byteLength, position)).bytesWritten),
  });
  if (expected.length > 0) {
    const total = remote.size === undefined ? {} : { totalBytes: remote.size };
    const found = await sha256OfFile(part, signal, (doneBytes) => {
      onProgress?.({ phase: 'verify', file: options.file, doneBytes, ...total });
    });
    if (found !== expected[0]) {
      await removePart(part);
      throw new HubError(
        'checksum',
        `${what}: SHA-256 ${expected[0]} was expected and ${found} arrived; the download was deleted, start it again`,
      );
    }
  }
  await rename(part, path);
  await removePart(part);
}
