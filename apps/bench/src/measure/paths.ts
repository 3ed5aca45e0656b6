import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** This app's folder, from dist/. */
export const appRoot = fileURLToPath(new URL('..', import.meta.url));
export const repositoryRoot = join(appRoot, '../..');

/** A folder under .cache of the clone, made when absent. */
export function cacheFolder(name: string): string {
  const folder = join(repositoryRoot, '.cache', name);
  mkdirSync(folder, { recursive: true });
  return folder;
}
