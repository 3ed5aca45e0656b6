// Gets what a fresh clone needs before anything else runs: pnpm, the packages, the browser and Vulkan loader, the addon.
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { root, step } from './run.mjs';

const pnpmVersion = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')).devEngines.packageManager.version;
export const pnpm = join(root, '.tools/node_modules/.bin/pnpm');

function has(command, args = ['--version']) {
  return spawnSync(command, args, { stdio: 'ignore' }).status === 0;
}

/** pnpm inside the clone, then the locked packages. */
export function installPackages() {
  const manifest = join(root, '.tools/node_modules/pnpm/package.json');
  const installed = existsSync(manifest) ? JSON.parse(readFileSync(manifest, 'utf8')).version : undefined;
  if (installed !== pnpmVersion) {
    step(`install pnpm ${pnpmVersion} into .tools`, 'npm', [
      'install',
      '--prefix',
      '.tools',
      '--no-audit',
      '--no-fund',
      `pnpm@${pnpmVersion}`,
    ]);
  }
  step('install packages (pnpm install --frozen-lockfile)', pnpm, ['install', '--frozen-lockfile', '--reporter=append-only']);
}

/** True where the Rust toolchain is there; says what follows where it is not. */
export function rustAvailable() {
  if (has('cargo')) return true;
  if (process.env.CI === 'true') {
    console.error('✖ cargo was not found; CI needs the Rust toolchain');
    process.exit(1);
  }
  console.log('• no Rust toolchain (cargo): the native backend is not built, the portable backend is used, about 100 × slower');
  return false;
}

/** Headless Chromium and the Vulkan loader for the WebGPU tests: installed on Debian as root, named elsewhere. */
export function installBrowser() {
  const missing = [];
  if (!['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].some(existsSync)) missing.push('chromium');
  if (!spawnSync('ldconfig', ['-p'], { encoding: 'utf8' }).stdout?.includes('libvulkan.so.1')) missing.push('libvulkan1');
  if (missing.length === 0) return;
  const debianRoot = existsSync('/etc/debian_version') && process.getuid?.() === 0;
  if (!debianRoot) {
    console.error(
      `✖ the WebGPU tests need ${missing.join(' and ')}: install them (Debian: apt-get install ${missing.join(' ')})`,
    );
    process.exit(1);
  }
  const env = { DEBIAN_FRONTEND: 'noninteractive' };
  step('apt-get update', 'apt-get', ['update', '-q'], { env });
  step(`apt-get install ${missing.join(' ')}`, 'apt-get', ['install', '-y', '-q', '--no-install-recommends', ...missing], {
    env,
  });
}

/** The addon of this machine. */
export function buildAddon() {
  step('build the native addon (cargo)', 'node', ['kernels/native/build.mjs']);
}
