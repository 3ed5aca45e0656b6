// Emits dist/*.d.ts of every published package: one composite project per package, built in dependency order by `tsc -b`.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { root } from './lib/run.mjs';

const folders = ['packages', 'apps'].flatMap((group) => readdirSync(join(root, group)).map((name) => join(root, group, name)));
const projects = new Map();
for (const folder of folders) {
  const manifest = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
  if (manifest.exports?.['.']?.types && existsSync(join(folder, 'src/index.ts')))
    projects.set(manifest.name, { folder, manifest });
}
const out = join(root, '.cache/types');
mkdirSync(out, { recursive: true });
for (const [name, { folder, manifest }] of projects) {
  const needs = { ...manifest.dependencies, ...manifest.peerDependencies };
  const config = {
    extends: relative(folder, join(root, 'tsconfig.base.json')),
    compilerOptions: {
      composite: true,
      declaration: true,
      emitDeclarationOnly: true,
      rootDir: 'src',
      outDir: 'dist',
      tsBuildInfoFile: join(out, `${name.replaceAll('/', '-')}.tsbuildinfo`),
    },
    include: ['src', relative(folder, join(root, 'types'))],
    references: Object.keys(needs)
      .filter((need) => projects.has(need))
      .map((need) => ({ path: join(relative(folder, projects.get(need).folder), 'tsconfig.types.json') })),
  };
  // The ambient shader declaration lies outside of rootDir, and holds no code.
  writeFileSync(join(folder, 'tsconfig.types.json'), `${JSON.stringify(config, null, 2)}\n`);
}
const references = [...projects.values()].map(({ folder }) => join(folder, 'tsconfig.types.json'));
const result = spawnSync(join(root, 'node_modules/.bin/tsc'), ['-b', ...references], { stdio: 'inherit', cwd: root });
process.exit(result.status ?? 1);
