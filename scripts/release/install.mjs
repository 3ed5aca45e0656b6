// For the release workflow: pnpm and the locked packages, as the test script installs them.
import { installPackages } from '../lib/bootstrap.mjs';

await installPackages();
