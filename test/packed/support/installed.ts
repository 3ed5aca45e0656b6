import { execFileSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { TestProject } from 'vitest/node';
import { tinyModel } from '../../../internal/testing/src/tiny-model.js';

const root = fileURLToPath(new URL('../../..', import.meta.url));

/** A project outside of the clone with every published package in it, from the tarballs that would go to the registry. */
export interface Installed {
  /** The project; its node_modules has the packages and nothing of the workspace. */
  readonly folder: string;
  /** Tarball by package name. */
  readonly tarballs: Readonly<Record<string, string>>;
  /** A tiny generated model. */
  readonly model: string;
  /** Package of the addon of this machine; undefined where it was not built. */
  readonly addonPackage: string | undefined;
}

declare module 'vitest' {
  interface ProvidedContext {
    installed: Installed;
  }
}

interface Manifest {
  readonly name: string;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
}

const readManifest = (path: string): Manifest => JSON.parse(readFileSync(path, 'utf8')) as Manifest;

function runScript(...args: string[]): Record<string, string> {
  const output = execFileSync(process.execPath, args, { cwd: root, encoding: 'utf8' });
  return JSON.parse(output) as Record<string, string>;
}

function pack(folder: string, destination: string): string {
  const pnpm = join(root, '.tools/node_modules/.bin/pnpm');
  const args = ['pack', '--json', '--pack-destination', destination];
  return (JSON.parse(execFileSync(pnpm, args, { cwd: folder, encoding: 'utf8' })) as { filename: string }).filename;
}

/** The package of this machine's addon, made as a release makes it. */
function packAddon(work: string): Record<string, string> {
  const built = join(root, 'packages/backend-native/native/filigree.node');
  if (!existsSync(built)) return {};
  const name = `${process.platform}-${process.arch}${{ linux: '-gnu', win32: '-msvc' }[process.platform as string] ?? ''}`;
  const addons = join(work, 'addons');
  mkdirSync(addons);
  copyFileSync(built, join(addons, `${name}.node`));
  const made = runScript('scripts/release/native-packages.mjs', '--addons', addons, '--out', join(work, 'npm'), '--only', name);
  return Object.fromEntries(Object.entries(made).map(([packageName, folder]) => [packageName, pack(folder, work)]));
}

/** Dependencies from outside, as the workspace has them installed: by name, the folder. */
function outside(tarballs: Readonly<Record<string, string>>): Record<string, string> {
  const found: Record<string, string> = {};
  for (const name of Object.keys(tarballs)) {
    const folder = join(root, name === 'filigree' ? 'apps/cli' : name.replace('@filigree/', 'packages/'));
    for (const dependency of Object.keys(readManifest(join(folder, 'package.json')).dependencies ?? {})) {
      if (dependency in tarballs) continue;
      found[dependency] = realpathSync(join(folder, 'node_modules', dependency));
    }
  }
  return found;
}

/** Packs all, installs all without the network. */
async function install(): Promise<Installed> {
  const work = mkdtempSync(join(tmpdir(), 'filigree-dist-'));
  const tarballs = runScript('scripts/pack.mjs', join(work, 'tarballs'));
  const addon = packAddon(work);
  const folder = join(work, 'project');
  mkdirSync(folder);
  const files = Object.fromEntries(Object.entries({ ...tarballs, ...addon }).map(([name, path]) => [name, `file:${path}`]));
  const links = Object.fromEntries(Object.entries(outside(tarballs)).map(([name, path]) => [name, `link:${path}`]));
  const targets = JSON.parse(readFileSync(join(root, 'scripts/release/native-targets.json'), 'utf8')) as { name: string }[];
  const absent = targets.map(({ name }) => `@filigree/backend-native-${name}`).filter((name) => !(name in addon));
  const overrides = { ...files, ...links, ...Object.fromEntries(absent.map((name) => [name, '-'])) };
  // Dawn is an optional peer of backend-webgpu, which a user of it in Node installs.
  const webgpu = `link:${realpathSync(join(root, 'packages/backend-webgpu/node_modules/webgpu'))}`;
  const dependencies = { webgpu, ...Object.fromEntries(Object.keys(tarballs).map((name) => [name, files[name]])) };
  writeFileSync(join(folder, 'package.json'), JSON.stringify({ name: 'user', private: true, type: 'module', dependencies }));
  // JSON is YAML. The packages come from files, so nothing is asked for and nothing may be.
  writeFileSync(join(folder, 'pnpm-workspace.yaml'), JSON.stringify({ packages: ['.'], overrides, autoInstallPeers: false }));
  execFileSync(join(root, '.tools/node_modules/.bin/pnpm'), ['install', '--offline', '--ignore-scripts', '--reporter=silent'], {
    cwd: folder,
    stdio: 'inherit',
  });
  const model = join(work, 'model.gguf');
  writeFileSync(model, await tinyModel());
  return { folder, tarballs, model, addonPackage: Object.keys(addon)[0] };
}

/** Global setup of the dist project. */
export async function setup(project: TestProject): Promise<() => void> {
  const installed = await install();
  console.log(`dist: ${Object.keys(installed.tarballs).length} packages packed and installed into ${installed.folder}`);
  project.provide('installed', installed);
  return () => {
    rmSync(join(installed.folder, '..'), { recursive: true, force: true });
  };
}
