import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { platformPackage } from '@filigree/backend-native';

const root = fileURLToPath(new URL('../..', import.meta.url));
const work = mkdtempSync(join(tmpdir(), 'filigree-release-'));

interface Target {
  readonly name: string;
  readonly os: string;
  readonly cpu: string;
  readonly rust: string;
}

const targets = JSON.parse(readFileSync(join(root, 'scripts/release/native-targets.json'), 'utf8')) as Target[];
const script = (...args: string[]): string[] => [
  'scripts/release/native-packages.mjs',
  '--addons',
  work,
  '--out',
  join(work, 'out'),
  ...args,
];

afterAll(() => {
  rmSync(work, { recursive: true, force: true });
});

describe('packages of prebuilt addons', () => {
  it('have the names that backend-native looks for', () => {
    const here = targets.filter(({ os, cpu }) => os === process.platform && cpu === process.arch);
    expect(here.map(({ name }) => `@filigree/backend-native-${name}`)).toEqual([platformPackage()]);
  });

  it('are not made without every addon', () => {
    const { status, stderr } = spawnSync(process.execPath, script(), { cwd: root, encoding: 'utf8' });
    expect(status).toBe(1);
    expect(stderr).toContain(`${targets[0].name}.node is not there`);
  });

  it.each(targets)('$name installs where it fits and nowhere else', ({ name, os, cpu }) => {
    writeFileSync(join(work, `${name}.node`), name);
    const printed = execFileSync(process.execPath, script('--only', name), { cwd: root, encoding: 'utf8' });
    const folder = (JSON.parse(printed) as Record<string, string>)[`@filigree/backend-native-${name}`];
    const manifest = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as Record<string, unknown>;
    const native = JSON.parse(readFileSync(join(root, 'packages/backend-native/package.json'), 'utf8')) as { version: string };
    expect(manifest).toMatchObject({ os: [os], cpu: [cpu], main: 'filigree.node', version: native.version });
    expect(readFileSync(join(folder, 'filigree.node'), 'utf8')).toBe(name);
  });
});

describe('the minimums of the test script', () => {
  const complaints = (counts: Record<string, number>): unknown => {
    const program = `import { shrunken } from './scripts/lib/minimums.mjs'; const found = shrunken('short', ${JSON.stringify(counts)}); console.error(JSON.stringify(found));`;
    const { stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', program], { cwd: root, encoding: 'utf8' });
    return JSON.parse(stderr);
  };

  it('complain about a suite that has shrunk', () => {
    expect(complaints({ node: 1 })).toEqual([expect.stringContaining('node: 1 tests passed')]);
  });

  it('accept one that has grown, and say nothing of one that did not run', () => {
    expect(complaints({ node: 1e6 })).toEqual([]);
  });
});
