import { readFileSync } from 'node:fs';

/** A file of this package, by its path from the package's folder; `src` and `dist` are both one level below it. */
export function readPackageFile(path: string): string {
  return readFileSync(new URL(`../${path}`, import.meta.url), 'utf8');
}

export function packageVersion(): string {
  return (JSON.parse(readPackageFile('package.json')) as { version: string }).version;
}

/** A text of some 7,000 tokens: John F. Kennedy, State of the Union, January 30, 1961; a work of the United States government. */
export function speech(): string {
  return readPackageFile('text/state-of-the-union-1961.txt');
}
