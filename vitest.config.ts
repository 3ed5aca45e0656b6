import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { defineConfig, type Plugin } from 'vitest/config';

const root = fileURLToPath(new URL('.', import.meta.url));

/** Shaders are imported as text, as the build inlines them. */
const wgslText: Plugin = {
  name: 'wgsl-text',
  load(id) {
    return id.endsWith('.wgsl') ? `export default ${JSON.stringify(readFileSync(id, 'utf8'))};` : undefined;
  },
};

/** `#name`, which package.json maps to a built file per platform, is `src/name.node.ts` of the same package here. */
const nodeSources: Plugin = {
  name: 'node-sources',
  enforce: 'pre',
  resolveId(source, importer) {
    const folder = /^.*\/(?:packages|apps)\/[^/]+\//.exec(importer ?? '')?.[0];
    if (!folder || !source.startsWith('#')) return undefined;
    const file = `${folder}src/${source.slice(1)}.node.ts`;
    return existsSync(file) ? file : undefined;
  },
};

const shared = {
  plugins: [wgslText, nodeSources],
  resolve: {
    alias: [
      { find: /^@filigree\/wgsl\/(.*)$/, replacement: `${root}kernels/wgsl/$1` },
      { find: /^@filigree\/testing$/, replacement: `${root}internal/testing/src/index.ts` },
      { find: /^@filigree\/([a-z-]+)$/, replacement: `${root}packages/$1/src/index.ts` },
    ],
    conditions: ['filigree-source', 'node', 'import', 'default'],
  },
};

const installed = ['**/node_modules/**', '**/.tools/**', '**/.cache/**'];

export default defineConfig({
  test: {
    projects: [
      {
        ...shared,
        test: {
          name: 'node',
          include: ['{packages,apps,internal}/*/test/**/*.test.ts', 'test/**/*.test.ts'],
          exclude: ['**/*.browser.test.ts', '**/*.dist.test.ts', ...installed],
          pool: 'forks',
          testTimeout: 120_000,
          hookTimeout: 120_000,
        },
      },
      {
        ...shared,
        test: {
          name: 'browser',
          include: ['{packages,apps,internal}/*/test/**/*.browser.test.ts', 'test/**/*.browser.test.ts'],
          exclude: installed,
          pool: 'forks',
          fileParallelism: false,
          testTimeout: 300_000,
          hookTimeout: 300_000,
        },
      },
      {
        // The built and packed packages, as a user gets them: `npm run build` goes before. No aliases here.
        test: {
          name: 'dist',
          include: ['test/packed/**/*.dist.test.ts'],
          globalSetup: ['test/packed/support/installed.ts'],
          exclude: installed,
          pool: 'forks',
          fileParallelism: false,
          testTimeout: 300_000,
          hookTimeout: 300_000,
        },
      },
    ],
    maxWorkers: 2,
  },
});
