// Loads an addon file and looks whether it is one that this version can use: `node check-addon.mjs FILE [TARGET]`.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';
import { root } from '../lib/run.mjs';

const [file, name] = process.argv.slice(2);
const addon = createRequire(import.meta.url)(resolve(file));
const source = readFileSync(join(root, 'packages/backend-native/src/load-addon.ts'), 'utf8');
const abi = Number(/export const abi = (\d+);/.exec(source)?.[1]);
const targets = JSON.parse(readFileSync(join(root, 'scripts/release/native-targets.json'), 'utf8'));
const target = targets.find((candidate) => candidate.name === name);

const problems = [];
if (addon.ABI !== abi) problems.push(`it speaks message format ${addon.ABI}, the package ${abi}`);
if (addon.opTable().length === 0) problems.push('its op table is empty');
if (!addon.cpuPaths().includes('scalar')) problems.push('it has no scalar path');
if (name !== undefined && (target?.os !== process.platform || target.cpu !== process.arch)) {
  problems.push(`this machine is ${process.platform}-${process.arch}, which is not the target ${name}`);
}
for (const problem of problems) console.error(`${file}: ${problem}`);
console.log(`${file}: ${addon.opTable().length} ops, paths ${addon.cpuPaths().join(', ')}`);
process.exitCode = problems.length === 0 ? 0 : 1;
