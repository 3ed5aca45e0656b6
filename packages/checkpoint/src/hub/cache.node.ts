import { readdir, stat } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join, relative, resolve, sep } from 'node:path';
import type { CachedFile } from './options.js';

/**
 * Where downloads are kept: FILIGREE_CACHE, else `filigree` in the user's cache directory (XDG_CACHE_HOME or ~/.cache,
 * ~/Library/Caches on macOS, LOCALAPPDATA on Windows).
 */
export function cacheDirectory(env: Readonly<Record<string, string | undefined>> = process.env): string {
  if (env.FILIGREE_CACHE) return resolve(env.FILIGREE_CACHE);
  if (env.XDG_CACHE_HOME) return join(env.XDG_CACHE_HOME, 'filigree');
  if (process.platform === 'darwin') return join(homedir(), 'Library', 'Caches', 'filigree');
  if (process.platform === 'win32' && env.LOCALAPPDATA) return join(env.LOCALAPPDATA, 'filigree', 'Cache');
  return join(homedir(), '.cache', 'filigree');
}

/** hub/OWNER/NAME/REVISION/FILE; a revision may hold slashes and is escaped. */
export function hubCachePath(
  cacheDir: string,
  { repo, revision, file }: { repo: string; revision: string; file: string },
): string {
  return join(cacheDir, 'hub', ...repo.split('/'), encodeURIComponent(revision), ...file.split('/'));
}

/** pip/PACKAGE==VERSION/FILE. */
export function pipCachePath(cacheDir: string, pack: string, file: string): string {
  return join(cacheDir, 'pip', pack, file);
}

/** Suffixes of files that are not, or not yet, a download. */
const unfinished = /\.(?:part|part\.json|lock|lock\.takeover)$/;

/** Everything complete in the cache, by path. A cache that does not exist is empty. */
export async function listCached(cacheDir: string = cacheDirectory()): Promise<CachedFile[]> {
  const found: CachedFile[] = [];
  for (const source of ['hub', 'pip'] as const) {
    const root = join(cacheDir, source);
    const entries = await readdir(root, { recursive: true, withFileTypes: true }).catch(() => []);
    for (const entry of entries) {
      if (!entry.isFile() || unfinished.test(entry.name)) continue;
      const path = join(entry.parentPath, entry.name);
      const place = placeOf(source, relative(root, path).split(sep));
      // Another process may be removing it.
      const info = await stat(path).catch(() => undefined);
      if (place && info) found.push({ source, ...place, path, bytes: info.size, modified: info.mtime });
    }
  }
  return found.sort((a, b) => (a.path < b.path ? -1 : 1));
}

function placeOf(source: 'hub' | 'pip', parts: string[]): { from: string; revision?: string; file: string } | undefined {
  if (source === 'pip') {
    const [pack, ...file] = parts;
    return file.length > 0 ? { from: pack, file: file.join('/') } : undefined;
  }
  const [owner, name, revision, ...file] = parts;
  return file.length > 0
    ? { from: `${owner}/${name}`, revision: decodeURIComponent(revision), file: file.join('/') }
    : undefined;
}

/** Whether there is a complete file. */
export async function isFile(path: string): Promise<boolean> {
  return stat(path).then(
    (info) => info.isFile(),
    () => false,
  );
}
