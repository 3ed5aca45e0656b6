// For the release workflow: sets the versions that the waiting changesets ask for, and the lockfile with them.
import { pnpm, toolEnvironment } from '../lib/bootstrap.mjs';
import { bin, step } from '../lib/run.mjs';

await step('set versions', bin('changeset'), ['version'], { env: toolEnvironment });
await step('update the lockfile', pnpm, ['install', '--lockfile-only']);
