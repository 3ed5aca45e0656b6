import { readFileSync } from 'node:fs';

/** A file of this package, by its path from the package's folder; `src` and `dist` are both one level below it. */
export function readPackageFile(path: string): string {
  return readFileSync(new URL(`../${path}`, import.meta.url), 'utf8');
}

export function packageVersion(): string {
  return (JSON.parse(readPackageFile('package.json')) as { version: string }).version;
}
