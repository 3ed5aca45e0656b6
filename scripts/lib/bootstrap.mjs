// Gets what a fresh clone needs before anything else runs: pnpm, the packages, the browser and Vulkan loader, the addon.
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { root, step } from './run.mjs';

const pnpmVersion = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')).devEngines.packageManager.version;

/** The pinned pnpm; it lives inside the clone, so that nothing has to be installed on the machine. */
export const pnpm = join(root, '.tools/node_modules/.bin/pnpm');

/** The addon of this machine, where @filigree/backend-native looks for a local build. */
export const addonFile = join(root, 'packages/backend-native/native/filigree.node');

/** Environment in which tools (turbo, tsup) find the pinned pnpm before any other. */
export const toolEnvironment = {
  PATH: `${join(root, '.tools/node_modules/.bin')}:${process.env.PATH}`,
  TURBO_TELEMETRY_DISABLED: '1',
  DO_NOT_TRACK: '1',
};

/** Puts pnpm into .tools, then the locked packages into node_modules. */
export async function installPackages() {
  const manifest = join(root, '.tools/node_modules/pnpm/package.json');
  const installed = existsSync(manifest) ? JSON.parse(readFileSync(manifest, 'utf8')).version : undefined;
  if (installed !== pnpmVersion) {
    const flags = ['--prefix', '.tools', '--no-audit', '--no-fund', '--loglevel=error'];
    await step(`install pnpm ${pnpmVersion} into .tools`, 'npm', ['install', ...flags, `pnpm@${pnpmVersion}`]);
  }
  await step('install the locked packages into node_modules', pnpm, ['install', '--frozen-lockfile', '--reporter=append-only']);
}

/** True where the Rust toolchain is there; one line says what follows where it is not. */
export function rustAvailable() {
  if (spawnSync('cargo', ['--version'], { stdio: 'ignore' }).status === 0) return true;
  const follows = existsSync(addonFile)
    ? 'the native addon is the one that was built before'
    : 'the native backend is not built, the portable one is used: about 100 × slower';
  console.log(`• no Rust toolchain (cargo, see https://rustup.rs): ${follows}`);
  return false;
}

/** Headless Chromium and the Vulkan loader for the WebGPU tests: installed on Debian as root, named elsewhere. */
export async function installBrowser() {
  if (process.platform !== 'linux') return;
  const missing = [];
  const browsers = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];
  if (!browsers.some((path) => existsSync(path))) missing.push('chromium');
  // Not every PATH of an ordinary user has /sbin.
  const libraries = spawnSync('/sbin/ldconfig', ['-p'], { encoding: 'utf8' }).stdout ?? '';
  if (!libraries.includes('libvulkan.so.1')) missing.push('libvulkan1');
  if (missing.length === 0) return;
  if (!existsSync('/etc/debian_version') || process.getuid?.() !== 0) {
    console.error(`✖ the WebGPU tests need ${missing.join(' and ')}; as root on Debian: apt-get install ${missing.join(' ')}`);
    process.exit(1);
  }
  const env = { DEBIAN_FRONTEND: 'noninteractive' };
  const packages = ['-y', '-q', '--no-install-recommends', ...missing];
  await step('refresh the list of Debian packages', 'apt-get', ['update', '-q'], { env });
  await step(`install ${missing.join(' and ')} for the WebGPU tests`, 'apt-get', ['install', ...packages], { env });
}

/** Builds the addon of this machine. */
export async function buildAddon() {
  await step('build the native addon', 'node', ['kernels/native/build.mjs']);
}
