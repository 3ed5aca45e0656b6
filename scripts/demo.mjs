// `npm run demo` on a fresh clone: installs, builds, and hands over to the command line.
import { buildAddon, installPackages, rustAvailable } from './lib/bootstrap.mjs';
import { step } from './lib/run.mjs';

await installPackages();
if (rustAvailable()) await buildAddon();
await step('build the packages', 'node', ['scripts/build.mjs', '--cli']);
await step('demo', 'node', ['apps/cli/bin/filigree.js', 'demo', ...process.argv.slice(2)]);
