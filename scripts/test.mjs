// The README's test command. `--full` adds the long tier; `--rest` runs only what the short one leaves out (for CI).
import { buildAddon, installBrowser, installPackages, rustAvailable } from './lib/bootstrap.mjs';
import { count, finish, root, step } from './lib/run.mjs';
import { existsSync } from 'node:fs';
import { join } from 'node:path';

const rest = process.argv.includes('--rest');
const full = rest || process.argv.includes('--full');
const bin = (name) => join(root, 'node_modules/.bin', name);
const native = 'kernels/native';

installPackages();
installBrowser();
const rust = rustAvailable();

if (!rest) {
  if (rust) {
    step('rustfmt', 'cargo', ['fmt', '--check'], { cwd: join(root, native) });
    step('clippy', 'cargo', ['clippy', '--release', '--locked', '--all-targets', '--', '-D', 'warnings'], {
      cwd: join(root, native),
    });
    const cargo = step('cargo test', 'cargo', ['test', '--release', '--locked', '-p', 'filigree-kernels'], {
      cwd: join(root, native),
      capture: true,
    });
    count(cargo.output);
  }
}
if (rust) buildAddon();
if (!rest) {
  step('build packages', 'node', ['scripts/build.mjs']);
  step('eslint', bin('eslint'), ['.', '--max-warnings', '0']);
  step('prettier', bin('prettier'), ['--check', '.', '--log-level', 'warn']);
  step('types', bin('tsc'), ['--noEmit', '-p', 'tsconfig.json']);
}

const vitest = (name, args, env = {}) => {
  const run = step(name, bin('vitest'), ['run', ...args], { env, capture: true, allowFailure: true });
  count(run.output);
  if (run.status !== 0) finish(1);
};
if (!rest) vitest('vitest', []);
if (full) {
  if (existsSync(join(root, 'scripts/fetch-models.mjs'))) step('get the real models', 'node', ['scripts/fetch-models.mjs']);
  vitest('vitest, full tier', ['--project', 'node'], { FILIGREE_TEST_TIER: 'full' });
}
finish(0);
