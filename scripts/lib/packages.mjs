import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { root } from './run.mjs';

/** The workspace packages under packages/ and apps/: folder, manifest, and whether there is source to build. */
export function packages() {
  const folders = ['packages', 'apps'].flatMap((group) =>
    readdirSync(join(root, group)).map((name) => join(root, group, name)),
  );
  return folders
    .filter((folder) => existsSync(join(folder, 'package.json')))
    .map((folder) => ({
      folder,
      manifest: JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')),
      hasSource: existsSync(join(folder, 'src/index.ts')),
    }));
}

/** Those that go to the registry. */
export function publishedPackages() {
  return packages().filter(({ manifest, hasSource }) => manifest.private !== true && hasSource);
}
