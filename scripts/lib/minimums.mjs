// The least that must have run of each suite: a suite that shrinks silently (a glob that matches nothing, an early return) fails here.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));
const minimums = JSON.parse(readFileSync(join(root, 'scripts/test-minimums.json'), 'utf8'));

/** Project of a test file, as in vitest.config.ts. */
export function projectOf(path) {
  return /\.browser\.test\.ts$/.test(path) ? 'browser' : /\.dist\.test\.ts$/.test(path) ? 'dist' : 'node';
}

/** Prints what ran of each suite, and returns a complaint for each that is below its minimum in this tier ('short' or 'full'). */
export function shrunken(tier, counts) {
  const complaints = [];
  for (const [suite, minimum] of Object.entries(minimums[tier])) {
    if (!(suite in counts)) continue;
    console.log(`• ${suite}: ${counts[suite]} tests passed (minimum ${minimum})`);
    if (counts[suite] < minimum) {
      complaints.push(
        `${suite}: ${counts[suite]} tests passed, scripts/test-minimums.json asks for ${minimum} in the ${tier} tier: a suite has shrunk`,
      );
    }
  }
  return complaints;
}
