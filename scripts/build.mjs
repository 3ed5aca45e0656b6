// Builds every published package: JavaScript through turbo and tsup, declarations through one tsc program.
import { join } from 'node:path';
import { root, step } from './lib/run.mjs';

step(
  'tsup (turbo run build)',
  join(root, 'node_modules/.bin/turbo'),
  ['run', 'build', '--output-logs=errors-only', '--no-update-notifier'],
  {
    env: { PATH: `${join(root, '.tools/node_modules/.bin')}:${process.env.PATH}`, TURBO_TELEMETRY_DISABLED: '1' },
  },
);
step('declarations (tsc)', 'node', ['scripts/emit-types.mjs']);
