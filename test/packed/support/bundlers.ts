import { build as esbuild } from 'esbuild';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { build as vite } from 'vite';
import webpack from 'webpack';

/** A program for browsers: where it is, where its bundle goes. */
export interface Program {
  /** The project that has the packages installed. */
  readonly folder: string;
  /** Path of the program. */
  readonly entry: string;
  /** Empty folder for the result. */
  readonly out: string;
}

/** Bundles with each tool as its users do: minified, for browsers, with no setting that is ours. */
export const bundlers: Readonly<Record<string, (program: Program) => Promise<void>>> = {
  async esbuild({ entry, out }) {
    await esbuild({
      entryPoints: [entry],
      outdir: out,
      bundle: true,
      splitting: true,
      format: 'esm',
      minify: true,
      logLevel: 'warning',
    });
  },

  async vite({ folder, entry, out }) {
    await vite({
      root: folder,
      configFile: false,
      logLevel: 'warn',
      build: { outDir: out, target: 'es2023', rollupOptions: { input: entry } },
    });
  },

  async webpack({ folder, entry, out }) {
    const compiler = webpack({
      context: folder,
      entry,
      mode: 'production',
      target: 'web',
      output: { path: out, module: true, chunkFormat: 'module' },
      experiments: { outputModule: true },
    });
    await new Promise<void>((resolve, reject) => {
      compiler.run((error, stats) => {
        const problems = [...(stats?.compilation.errors ?? [])].map(({ message }) => message);
        if (error || problems.length > 0) reject(error ?? new Error(problems.join('\n')));
        else
          compiler.close(() => {
            resolve();
          });
      });
    });
  },
};

/** Text of every file of a bundle by name. */
export function bundleFiles(out: string): Map<string, string> {
  const names = readdirSync(out, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  return new Map(names.map(({ parentPath, name }) => [name, readFileSync(join(parentPath, name), 'utf8')]));
}
