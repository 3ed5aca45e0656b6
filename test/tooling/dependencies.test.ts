import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const root = fileURLToPath(new URL('../..', import.meta.url));
const folders = ['packages', 'apps', 'internal', 'kernels'].flatMap((group) =>
  readdirSync(join(root, group)).map((name) => join(root, group, name)),
);

/** Dependencies of a manifest that come from outside of the workspace. */
function fromNpm(path: string): string[] {
  const manifest = JSON.parse(readFileSync(path, 'utf8')) as Readonly<
    Record<string, Readonly<Record<string, string>> | undefined>
  >;
  const fields = ['dependencies', 'devDependencies', 'peerDependencies', 'optionalDependencies'];
  const all = fields.flatMap((field) => Object.entries(manifest[field] ?? {}));
  return all.filter(([, version]) => !version.startsWith('workspace:')).map(([name]) => name);
}

/** Dependencies of a crate that come from the registry: lines `name = …` of its dependency sections, without paths. */
function fromCrates(path: string): string[] {
  const sections = readFileSync(path, 'utf8').split(/^\[/m);
  const lines = sections
    .filter((section) => /^[^\]]*dependencies\]/.test(section))
    .flatMap((section) => section.split('\n').slice(1));
  const own = lines.filter((line) => !line.includes('path ='));
  return own.flatMap((line) => /^([\w-]+)(?:\.\w+)?\s*=/.exec(line)?.[1] ?? []);
}

const manifests = [root, ...folders].map((folder) => join(folder, 'package.json')).filter((path) => existsSync(path));
const crates = ['kernels', 'addon', 'pool-bench'].map((name) => join(root, 'kernels/native', name, 'Cargo.toml'));
const used = new Set([...manifests.flatMap(fromNpm), ...crates.flatMap(fromCrates)]);

const page = readFileSync(join(root, 'docs/dependencies.md'), 'utf8');
/** Cells of the lines of the tables by the dependency that they are about. */
const lines = new Map(
  page.split('\n').flatMap((line) => {
    const [, name, ...cells] = line.split('|').map((cell) => cell.trim());
    const dependency = /^`(.+)`$/.exec(name ?? '')?.[1];
    return dependency === undefined ? [] : [[dependency, cells.slice(0, -1)] as const];
  }),
);

describe('docs/dependencies.md', () => {
  it.each([...used].sort())('has a line for %s, every cell filled', (name) => {
    const cells = lines.get(name);
    expect(cells?.length ?? 0).toBeGreaterThanOrEqual(4);
    expect(cells?.filter((cell) => cell === '')).toEqual([]);
  });

  it('has no line for what nothing depends on', () => {
    expect([...lines.keys()].filter((name) => !used.has(name))).toEqual([]);
  });

  it('finds dependencies of both kinds', () => {
    expect(used).toContain('commander');
    expect(used).toContain('napi');
  });
});
