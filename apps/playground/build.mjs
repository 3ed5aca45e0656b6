// Builds the page into dist: the files of public/ as they are, and one script from src/main.ts and the built packages.
import { cp, rm } from 'node:fs/promises';
import { build } from 'esbuild';

await rm('dist', { recursive: true, force: true });
await cp('public', 'dist', { recursive: true });
await build({
  entryPoints: ['src/main.ts'],
  outfile: 'dist/main.js',
  bundle: true,
  format: 'esm',
  platform: 'browser',
  target: 'es2023',
  minify: true,
  sourcemap: true,
  // The repository's tsconfig.json maps packages to their sources; the page is made of the built ones, as a user's is.
  tsconfigRaw: {},
  logLevel: 'warning',
});
