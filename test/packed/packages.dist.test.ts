import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { publint } from 'publint';
import { formatMessage } from 'publint/utils';
import { describe, expect, inject, it } from 'vitest';

const attw = fileURLToPath(new URL('../../node_modules/.bin/attw', import.meta.url));
const { tarballs } = inject('installed');

/** Paths inside of a tarball, without the leading `package/`. */
function paths(tarball: string): string[] {
  const list = execFileSync('tar', ['-tzf', tarball], { encoding: 'utf8' });
  return list.split('\n').map((path) => path.replace(/^package\//, ''));
}

const manifestOf = (tarball: string): string =>
  execFileSync('tar', ['-xzOf', tarball, 'package/package.json'], { encoding: 'utf8' });

describe.each(Object.entries(tarballs))('%s as published', (_name, tarball) => {
  it('satisfies publint', async () => {
    const bytes = readFileSync(tarball);
    const packed = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
    const { messages, pkg } = await publint({ pack: { tarball: packed }, strict: true });
    expect(messages.map((message) => formatMessage(message, pkg, { color: false }))).toEqual([]);
  });

  it('has types that resolve where ESM resolves (attw)', () => {
    execFileSync(attw, ['--profile', 'esm-only', '--format', 'ascii', '--no-color', tarball], {
      stdio: 'pipe',
      encoding: 'utf8',
    });
  });

  it('carries its licence and README, and neither sources nor build state', () => {
    const found = paths(tarball);
    expect(found).toContain('LICENSE');
    expect(found).toContain('README.md');
    expect(found.filter((path) => /(?:^|\/)(?:src|test)\/|\.tsbuildinfo$|(?<!\.d)\.ts$|\.node$/.test(path))).toEqual([]);
  });

  it('depends on versions, not on the workspace', () => {
    expect(manifestOf(tarball)).not.toMatch(/"(?:workspace|link|file|catalog):/);
  });
});

describe('@filigree/backend-native as published', () => {
  it('asks for the prebuilt addon of every platform, at its own version', () => {
    const manifest = JSON.parse(manifestOf(tarballs['@filigree/backend-native'])) as {
      version: string;
      optionalDependencies: Record<string, string>;
    };
    const table = readFileSync(new URL('../../scripts/release/native-targets.json', import.meta.url), 'utf8');
    const names = (JSON.parse(table) as { name: string }[]).map(({ name }) => `@filigree/backend-native-${name}`);
    expect(manifest.optionalDependencies).toEqual(Object.fromEntries(names.map((name) => [name, manifest.version])));
  });
});
