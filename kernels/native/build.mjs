// Builds the addon for this machine and puts it where @filigree/backend-native looks for a local build.
import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, renameSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const names = { linux: 'libfiligree_addon.so', darwin: 'libfiligree_addon.dylib', win32: 'filigree_addon.dll' };

const cargo = spawnSync('cargo', ['build', '--release', '--locked', '-p', 'filigree-addon'], { cwd: here, stdio: 'inherit' });
if (cargo.error) {
  console.error(
    'filigree: no Rust toolchain (cargo) was found, so the native backend is not built; the portable backend is used.',
  );
  process.exit(1);
}
if (cargo.status !== 0) process.exit(cargo.status ?? 1);

const target = process.env.CARGO_TARGET_DIR ?? join(here, 'target');
const built = join(target, 'release', names[process.platform] ?? names.linux);
const out = join(here, '../../packages/backend-native/native');
if (!existsSync(built)) {
  console.error(`filigree: cargo succeeded but ${built} is not there`);
  process.exit(1);
}
mkdirSync(out, { recursive: true });
// A running process may have the old file mapped: replace it, do not write into it.
copyFileSync(built, join(out, 'filigree.node.new'));
renameSync(join(out, 'filigree.node.new'), join(out, 'filigree.node'));
