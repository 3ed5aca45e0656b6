// The README's test command. `--full` adds the long tier; `--rest` runs only what the short one leaves out (for CI).
import { join } from 'node:path';
import { buildAddon, installBrowser, installPackages, rustAvailable } from './lib/bootstrap.mjs';
import { installCurrentNode } from './lib/current-node.mjs';
import { bin, cargoTest, check, reportTotalsAtExit, root, step, vitest } from './lib/run.mjs';
import { fullTier } from './lib/full-tier.mjs';

const rest = process.argv.includes('--rest');
const full = rest || process.argv.includes('--full');
const native = { cwd: join(root, 'kernels/native') };

reportTotalsAtExit();
await installPackages();
await installBrowser();
await installCurrentNode();
const rust = rustAvailable();

if (rust && !rest) {
  await check('rustfmt', 'cargo', ['fmt', '--check'], native);
  await check('clippy', 'cargo', ['clippy', '--release', '--locked', '--all-targets', '--', '-D', 'warnings'], native);
  await cargoTest('cargo test', ['test', '--release', '--locked', '-p', 'filigree-kernels'], native);
}
if (rust) await buildAddon();
await step('build the packages', 'node', ['scripts/build.mjs']);
if (!rest) {
  await check('eslint', bin('eslint'), ['.', '--max-warnings', '0']);
  await check('prettier', bin('prettier'), ['--check', '.', '--log-level', 'warn']);
  await check('types', bin('tsc'), ['--noEmit', '-p', 'tsconfig.json']);
  if (!full) await vitest('tests', []);
}
if (full) await fullTier({ rust });
