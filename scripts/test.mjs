// The README's test command. `--full` adds the long tier; `--rest` runs only what the short one leaves out (for CI).
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { addonFile, buildAddon, installBrowser, installPackages, rustAvailable } from './lib/bootstrap.mjs';
import { installCurrentNode } from './lib/current-node.mjs';
import { bin, cargoTest, check, fail, reportTotalsAtExit, root, step, vitest } from './lib/run.mjs';
import { fullTier } from './lib/full-tier.mjs';

const rest = process.argv.includes('--rest');
const full = rest || process.argv.includes('--full');
const crates = { cwd: join(root, 'kernels/native') };

reportTotalsAtExit();
await installPackages();
await installBrowser();
await installCurrentNode();
const rust = rustAvailable();
const native = rust || existsSync(addonFile);

if (rust && !rest) {
  await check('rustfmt', 'cargo', ['fmt', '--check'], crates);
  await check('clippy', 'cargo', ['clippy', '--release', '--locked', '--all-targets', '--', '-D', 'warnings'], crates);
  const args = ['test', '--release', '--locked'];
  await cargoTest('cargo test', args, { ...crates, tier: 'short' });
}
if (rust) await buildAddon();
await step('build the packages', 'node', ['scripts/build.mjs']);
if (!rest) {
  await check('eslint', bin('eslint'), ['.', '--max-warnings', '0']);
  await check('prettier', bin('prettier'), ['--check', '.', '--log-level', 'warn']);
  await check('types', bin('tsc'), ['--noEmit', '-p', 'tsconfig.json']);
}
if (native) {
  if (full) await fullTier({ rust });
  else await vitest('tests', [], { tier: 'short' });
} else {
  fail('the tests compare the native backend with the others, and it is not built: install Rust (https://rustup.rs)');
}
