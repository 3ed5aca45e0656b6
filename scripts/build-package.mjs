// Builds the package in the current directory: one ESM file by tsup, shaders inlined as text. Types come from tsc (scripts/build.mjs).
import { build } from 'tsup';
import { existsSync } from 'node:fs';

if (!existsSync('src/index.ts')) process.exit(0);

const entry = { index: 'src/index.ts' };
for (const extra of [
  'file-source.node',
  'file-source.browser',
  'gpu.node',
  'gpu.browser',
  'default-backend.node',
  'default-backend.browser',
  'node',
]) {
  if (existsSync(`src/${extra}.ts`)) entry[extra] = `src/${extra}.ts`;
}
await build({
  entry,
  format: ['esm'],
  target: 'es2023',
  platform: 'neutral',
  splitting: true,
  clean: true,
  silent: true,
  loader: { '.wgsl': 'text' },
  noExternal: [/\.wgsl$/],
  external: [/^#/],
});
