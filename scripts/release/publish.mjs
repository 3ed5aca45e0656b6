// For the release workflow: builds, publishes the packages of the prebuilt addons, then everything else. `node publish.mjs ADDONS [--dry-run]`.
// The addons go first: backend-native must never be there without them.
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { toolEnvironment } from '../lib/bootstrap.mjs';
import { bin, root, step } from '../lib/run.mjs';

const [addons, flag] = process.argv.slice(2);
const dryRun = flag === '--dry-run';
const env = { ...toolEnvironment, NPM_CONFIG_PROVENANCE: 'true', PNPM_CONFIG_PROVENANCE: 'true' };

function addonFolders() {
  const args = ['scripts/release/native-packages.mjs', '--addons', addons, '--out', '.cache/native-packages'];
  const { status, stdout } = spawnSync('node', args, { cwd: root, encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] });
  if (status !== 0) process.exit(1);
  return Object.entries(JSON.parse(stdout));
}

/** A run that failed half-way is repeated as a whole: what is there already is left alone. */
function isPublished(name, folder) {
  const { version } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
  const { status, stdout } = spawnSync('npm', ['view', `${name}@${version}`, 'version'], { encoding: 'utf8' });
  return status === 0 && stdout.trim() === version;
}

await step('build the packages', 'node', ['scripts/build.mjs']);
for (const [name, folder] of addonFolders()) {
  if (isPublished(name, folder)) continue;
  const args = ['publish', '--access', 'public', ...(dryRun ? ['--dry-run', '--no-provenance'] : [])];
  await step(`publish ${name}`, 'npm', args, { cwd: folder, env: dryRun ? toolEnvironment : env });
}
if (dryRun) await step('what would be published', 'node', ['scripts/pack.mjs', '.cache/packed']);
else await step('publish the packages', bin('changeset'), ['publish'], { env });
