// For the release workflow: whether this commit publishes (no changeset waits), and the targets of the addon. Prints outputs of a step.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { root } from '../lib/run.mjs';

const waiting = readdirSync(join(root, '.changeset')).filter((name) => name.endsWith('.md') && name !== 'README.md');
const targets = JSON.parse(readFileSync(join(root, 'scripts/release/native-targets.json'), 'utf8'));
console.log(`publish=${waiting.length === 0}`);
console.log(`targets=${JSON.stringify(targets)}`);
