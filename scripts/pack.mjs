// Packs every published package as it would go to the registry: `node scripts/pack.mjs FOLDER`. Prints { name: tarball } as JSON.
import { spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { resolve } from 'node:path';
import { pnpm } from './lib/bootstrap.mjs';
import { publishedPackages } from './lib/packages.mjs';

const folder = process.argv[2];
if (!folder) {
  console.error('usage: node scripts/pack.mjs FOLDER');
  process.exit(2);
}
mkdirSync(folder, { recursive: true });
const tarballs = {};
for (const { folder: cwd, manifest } of publishedPackages()) {
  const args = ['pack', '--json', '--pack-destination', resolve(folder)];
  const { status, stdout, stderr } = spawnSync(pnpm, args, { cwd, encoding: 'utf8' });
  if (status !== 0) {
    console.error(`${manifest.name}: pnpm pack failed: ${stderr || stdout}`);
    process.exit(1);
  }
  tarballs[manifest.name] = JSON.parse(stdout).filename;
}
console.log(JSON.stringify(tarballs));
