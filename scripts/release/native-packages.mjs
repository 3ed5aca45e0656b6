// Generates the optional packages that carry the prebuilt addon, one per line of native-targets.json:
//   node scripts/release/native-packages.mjs --addons FOLDER --out FOLDER [--only NAME]
// FOLDER/NAME.node → FOLDER/NAME/{package.json, README.md, LICENSE, filigree.node}. Prints { package name: folder } as JSON.
import { copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { root } from '../lib/run.mjs';

const { values } = parseArgs({ options: { addons: { type: 'string' }, out: { type: 'string' }, only: { type: 'string' } } });
const targets = JSON.parse(readFileSync(join(root, 'scripts/release/native-targets.json'), 'utf8'));
const native = JSON.parse(readFileSync(join(root, 'packages/backend-native/package.json'), 'utf8'));
const wanted = targets.filter(({ name }) => values.only === undefined || name === values.only);

function fail(message) {
  console.error(`native-packages: ${message}`);
  process.exit(1);
}

if (!values.addons || !values.out) fail('--addons FOLDER and --out FOLDER are needed');
if (wanted.length === 0) fail(`no target is named ${values.only}; there are ${targets.map(({ name }) => name).join(', ')}`);

/** As in .pnpmfile.mjs: provenance demands the address of the repository that published. */
const { GITHUB_SERVER_URL: server, GITHUB_REPOSITORY: repositoryName } = process.env;
const repository = server && repositoryName ? { type: 'git', url: `git+${server}/${repositoryName}.git` } : undefined;

const made = {};
for (const { name, os, cpu, libc, rust } of wanted) {
  const addon = join(values.addons, `${name}.node`);
  if (!existsSync(addon)) fail(`${addon} is not there; a release carries every target`);
  const folder = resolve(values.out, name);
  mkdirSync(folder, { recursive: true });
  const manifest = {
    name: `${native.name}-${name}`,
    version: native.version,
    description: `Prebuilt addon of ${native.name} for ${name}`,
    license: native.license,
    ...(repository && { repository }),
    os: [os],
    cpu: [cpu],
    ...(libc && { libc: [libc] }),
    main: 'filigree.node',
    files: ['filigree.node'],
    engines: native.engines,
    publishConfig: native.publishConfig,
  };
  writeFileSync(join(folder, 'package.json'), `${JSON.stringify(manifest, null, 2)}\n`);
  writeFileSync(
    join(folder, 'README.md'),
    `# ${manifest.name}\n\nThe addon of \`${native.name}\` for ${rust}. Installed by that package where it fits; not for direct use.\n`,
  );
  copyFileSync(join(root, 'LICENSE'), join(folder, 'LICENSE'));
  copyFileSync(addon, join(folder, 'filigree.node'));
  made[manifest.name] = folder;
}
console.log(JSON.stringify(made));
