// Builds every package: JavaScript through turbo and tsup, declarations through tsc. Both do nothing where their inputs are as they were.
// `--cli`: only the JavaScript of the command line and of what it stands on.
import { toolEnvironment } from './lib/bootstrap.mjs';
import { bin, step } from './lib/run.mjs';

const cliOnly = process.argv.includes('--cli');
const flags = ['--output-logs=errors-only', '--no-update-notifier', '--cache-dir=.cache/turbo'];
if (cliOnly) flags.push('--filter=filigree...');
await step('JavaScript (turbo run build)', bin('turbo'), ['run', 'build', ...flags], { env: toolEnvironment });
if (!cliOnly) await step('declarations (tsc -b)', 'node', ['scripts/emit-types.mjs']);
