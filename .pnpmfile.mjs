// What a package gets only when it is packed or published, so that a clone needs none of it.
import { readFileSync } from 'node:fs';

/** The prebuilt addons, which exist from the moment a release has built them. */
function addonPackages({ name, version }) {
  const targets = JSON.parse(readFileSync(new URL('scripts/release/native-targets.json', import.meta.url), 'utf8'));
  return Object.fromEntries(targets.map((target) => [`${name}-${target.name}`, version]));
}

/** Provenance demands the address of the repository that published. */
function repository(directory) {
  const { GITHUB_SERVER_URL: server, GITHUB_REPOSITORY: name } = process.env;
  return server && name ? { repository: { type: 'git', url: `git+${server}/${name}.git`, directory } } : {};
}

export const hooks = {
  beforePacking(manifest) {
    const folder = manifest.name === 'filigree' ? 'apps/cli' : manifest.name.replace('@filigree/', 'packages/');
    Object.assign(manifest, repository(folder));
    if (manifest.name === '@filigree/backend-native') manifest.optionalDependencies = addonPackages(manifest);
    return manifest;
  },
};
