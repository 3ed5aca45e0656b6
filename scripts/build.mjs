// Builds every published package: JavaScript through turbo and tsup, declarations through tsc. `--javascript` leaves the declarations out.
// Both do nothing where their inputs are as they were.
import { toolEnvironment } from './lib/bootstrap.mjs';
import { bin, step } from './lib/run.mjs';

const flags = ['--output-logs=errors-only', '--no-update-notifier', '--cache-dir=.cache/turbo'];
await step('JavaScript (turbo run build)', bin('turbo'), ['run', 'build', ...flags], { env: toolEnvironment });
if (!process.argv.includes('--javascript')) await step('declarations (tsc -b)', 'node', ['scripts/emit-types.mjs']);
