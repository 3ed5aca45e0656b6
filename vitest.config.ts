import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { defineConfig, type Plugin } from 'vitest/config';

/** Shaders are imported as text, as the build inlines them. */
const wgslText: Plugin = {
  name: 'wgsl-text',
  load(id) {
    return id.endsWith('.wgsl') ? `export default ${JSON.stringify(readFileSync(id, 'utf8'))};` : undefined;
  },
};

const root = fileURLToPath(new URL('.', import.meta.url));
const shared = {
  plugins: [wgslText],
  resolve: {
    alias: [
      { find: /^@filigree\/wgsl\/(.*)$/, replacement: `${root}kernels/wgsl/$1` },
      { find: /^@filigree\/testing$/, replacement: `${root}internal/testing/src/index.ts` },
      { find: /^@filigree\/([a-z-]+)$/, replacement: `${root}packages/$1/src/index.ts` },
    ],
    conditions: ['filigree-source', 'node', 'import', 'default'],
  },
};

export default defineConfig({
  test: {
    projects: [
      {
        ...shared,
        test: {
          name: 'node',
          include: [
            'packages/*/test/**/*.test.ts',
            'apps/*/test/**/*.test.ts',
            'internal/*/test/**/*.test.ts',
            'test/**/*.test.ts',
          ],
          exclude: ['**/*.browser.test.ts', '**/node_modules/**'],
          pool: 'forks',
          testTimeout: 120_000,
          hookTimeout: 120_000,
        },
      },
      {
        ...shared,
        test: {
          name: 'browser',
          include: ['**/*.browser.test.ts'],
          exclude: ['**/node_modules/**'],
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
