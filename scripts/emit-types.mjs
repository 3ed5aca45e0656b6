// Emits dist/*.d.ts of every published package: one composite project per package, built in dependency order by `tsc -b`.
// The projects are generated from package.json, so that references and dependencies cannot disagree.
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { packages } from './lib/packages.mjs';
import { bin, root } from './lib/run.mjs';

const projects = new Map(
  packages()
    .filter(({ manifest, hasSource }) => manifest.exports?.['.']?.types && hasSource)
    .map((found) => [found.manifest.name, found]),
);
const file = 'tsconfig.types.json';
for (const { folder, manifest } of projects.values()) {
  const needs = Object.keys({ ...manifest.dependencies, ...manifest.peerDependencies, ...manifest.devDependencies });
  const config = {
    extends: relative(folder, join(root, 'tsconfig.base.json')),
    compilerOptions: {
      composite: true,
      declaration: true,
      emitDeclarationOnly: true,
      rootDir: 'src',
      outDir: 'dist',
      // Next to its outputs: whoever deletes dist deletes the belief that it is up to date.
      tsBuildInfoFile: 'dist/types.tsbuildinfo',
    },
    include: ['src', relative(folder, join(root, 'types'))],
    references: needs
      .filter((need) => projects.has(need))
      .map((need) => ({ path: join(relative(folder, projects.get(need).folder), file) })),
  };
  const [path, text] = [join(folder, file), `${JSON.stringify(config, null, 2)}\n`];
  // A newer configuration would make everything look out of date.
  if (!existsSync(path) || readFileSync(path, 'utf8') !== text) writeFileSync(path, text);
}
const references = [...projects.values()].map(({ folder }) => join(folder, file));
process.exit(spawnSync(bin('tsc'), ['-b', ...references], { stdio: 'inherit', cwd: root }).status ?? 1);
