// Builds the JavaScript of the package in the current directory with tsup, shaders inlined as text. Declarations come from scripts/emit-types.mjs.
import { existsSync, readFileSync } from 'node:fs';
import { build } from 'tsup';

/** Every file in dist that package.json names under `exports` or `imports`; `dist/x.js` is built from `src/x.ts`. */
function* distFiles(value) {
  if (typeof value === 'string') {
    const name = /^\.\/dist\/(.+)\.js$/.exec(value)?.[1];
    if (name) yield name;
  } else if (value && typeof value === 'object') {
    for (const inner of Object.values(value)) yield* distFiles(inner);
  }
}

const manifest = JSON.parse(readFileSync('package.json', 'utf8'));
const names = existsSync('src/index.ts') ? new Set(['index', ...distFiles([manifest.exports, manifest.imports])]) : [];
const entry = Object.fromEntries([...names].map((name) => [name, `src/${name}.ts`]));

if (Object.keys(entry).length > 0) {
  await build({
    entry,
    format: ['esm'],
    target: 'es2023',
    platform: 'neutral',
    splitting: true,
    // Declarations are written by another program, with its own idea of what is up to date.
    clean: ['!**/*.d.ts', '!**/*.tsbuildinfo'],
    silent: true,
    loader: { '.wgsl': 'text' },
    noExternal: [/\.wgsl$/],
    external: [/^#/, /^node:/],
  });
}
