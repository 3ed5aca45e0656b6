import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..', '..');

export interface BundleOptions {
  readonly platform: 'browser' | 'node';
  /** Packages left as imports; they resolve from `internal/testing`. */
  readonly external?: readonly string[];
}

/**
 * One ES module from source text that imports `@filigree/*`, straight from the packages' sources, with shaders inlined and `#name` imports
 * taken for the platform, as a user's bundler does it with the built packages.
 */
export async function bundle(source: string, { platform, external = [] }: BundleOptions): Promise<string> {
  const { build } = await import('esbuild');
  const { outputFiles } = await build({
    stdin: { contents: source, resolveDir: join(root, 'internal/testing'), loader: 'ts', sourcefile: 'entry.ts' },
    bundle: true,
    write: false,
    format: 'esm',
    target: 'es2023',
    platform,
    external: [...external],
    loader: { '.wgsl': 'text' },
    logLevel: 'silent',
    plugins: [
      {
        name: 'filigree-sources',
        setup(plugin) {
          plugin.onResolve({ filter: /^@filigree\/wgsl\// }, ({ path }) => ({
            path: join(root, 'kernels', path.slice('@filigree/'.length)),
          }));
          plugin.onResolve({ filter: /^@filigree\/[a-z-]+$/ }, ({ path }) => ({
            path: join(root, 'packages', path.slice('@filigree/'.length), 'src/index.ts'),
          }));
          plugin.onResolve({ filter: /^#/ }, ({ path, importer }) => {
            const folder = /^.*\/(?:packages|apps)\/[^/]+\//.exec(importer)?.[0] ?? '';
            const file = `${folder}src/${path.slice(1)}.${platform}.ts`;
            return existsSync(file) ? { path: file } : { errors: [{ text: `${path} has no file for ${platform}` }] };
          });
        },
      },
    ],
  });
  return outputFiles[0].text;
}

/** The folder from which a bundled module finds its external packages. */
export const bundleFolder = join(root, 'internal/testing');
