import { addonOps, cpuPaths, createNativeBackend, defaultThreads } from '@filigree/backend-native';
import {
  BackendVersionError,
  defineOp,
  fromArray,
  isOp,
  layoutHash,
  OptionError,
  opSignature,
  softcapOp,
  type AnyOp,
  type TensorMeta,
} from '@filigree/core-tensor';
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeAll, describe, expect, it, vi } from 'vitest';

const packages = new URL('../../', import.meta.url);
let ops: AnyOp[] = [];

beforeAll(async () => {
  // Ops of every package, found by what they are: nothing to keep in step by hand.
  for (const name of readdirSync(packages)) {
    const index = fileURLToPath(new URL(`${name}/src/index.ts`, packages));
    if (!existsSync(index) || name.startsWith('backend-')) continue;
    const module = (await import(/* @vite-ignore */ index)) as Record<string, unknown>;
    ops.push(...Object.values(module).filter(isOp));
  }
  ops = [...new Set(ops)];
});

describe('the op table', () => {
  it('has every op that names a native kernel, with the layout of the package', () => {
    const table = new Map(addonOps().map(({ name, hash }) => [name, hash]));
    const native = ops.filter((op) => op.native !== undefined);
    expect(native.length).toBeGreaterThanOrEqual(27);
    for (const op of native) expect([op.name, table.get(op.native ?? '')]).toEqual([op.name, layoutHash(opSignature(op))]);
  });

  it('has no kernel that no op names, and none twice', () => {
    const named = new Set(ops.map((op) => op.native));
    const table = addonOps().map(({ name }) => name);
    expect(table.filter((name) => !named.has(name))).toEqual([]);
    expect(new Set(table).size).toBe(table.length);
  });

  it('gives every op of a package a name of its own', () => {
    expect(new Set(ops.map((op) => op.name)).size).toBe(ops.length);
  });
});

describe('an op that does not match the addon', () => {
  const wrong = {
    name: 'test/softcap',
    outputs: ['y'],
    attributes: { cap: { type: 'number' } },
    infer: ({ x }: { x: TensorMeta }) => ({ y: x }),
    reference: () => undefined,
  } as const;

  it('throws an error that names both layouts when its arguments differ, and never falls back', () => {
    const backend = createNativeBackend({ fallback: 'warn' });
    const op = defineOp({ ...wrong, inputs: ['x', 'mask?'], native: 'core_softcap' });
    const built = addonOps().find(({ name }) => name === 'core_softcap')?.hash ?? '';
    const run = (): unknown => op({ x: fromArray(backend, [1], [1]) }, { cap: 1 });
    expect(run).toThrow(BackendVersionError);
    expect(run).toThrow(built);
    expect(run).toThrow(layoutHash(opSignature(op)));
    backend.dispose();
  });

  it('throws an error that names the kernel when the addon lacks it', () => {
    const backend = createNativeBackend({ fallback: 'warn' });
    const op = defineOp({ ...wrong, inputs: ['x'], native: 'core_not_there' });
    const run = (): unknown => op({ x: fromArray(backend, [1], [1]) }, { cap: 1 });
    expect(run).toThrow(BackendVersionError);
    expect(run).toThrow('core_not_there');
    backend.dispose();
  });
});

describe('the CPU path', () => {
  afterEach(() => {
    vi.unstubAllEnvs();
  });

  it('is the best of the machine, and scalar is always there', () => {
    vi.stubEnv('FILIGREE_CPU', '');
    const backend = createNativeBackend();
    expect(cpuPaths()[0]).toBe('scalar');
    expect(backend.capabilities.device).toBe(cpuPaths().at(-1));
    backend.dispose();
  });

  it.each(cpuPaths())('is %s when FILIGREE_CPU says so, and the profile shows it', async (cpu) => {
    vi.stubEnv('FILIGREE_CPU', cpu);
    const backend = createNativeBackend();
    expect(backend.capabilities.device).toBe(cpu);
    const profile = backend.profile();
    softcapOp({ x: fromArray(backend, [1], [1]) }, { cap: 1 });
    expect(await profile.stop()).toMatchObject([{ op: 'core/softcap', kernel: 'native', variant: cpu }]);
    backend.dispose();
  });

  it.each(['AVX2', 'sse9', ' '])('is refused when FILIGREE_CPU is %j, naming what there is', (cpu) => {
    vi.stubEnv('FILIGREE_CPU', cpu);
    expect(() => createNativeBackend()).toThrow(OptionError);
    expect(() => createNativeBackend()).toThrow('scalar');
  });

  it.each([0, -1, 1.5, 257, NaN])('threads: %s is refused', (threads) => {
    expect(() => createNativeBackend({ threads })).toThrow(OptionError);
  });
});

describe('the default number of threads', () => {
  it('is what defaultThreads() says', () => {
    const backend = createNativeBackend();
    expect(backend.capabilities.threads).toBe(defaultThreads());
    backend.dispose();
  });

  it('is at most the CPUs and at most 16', () => {
    expect(defaultThreads()).toBeGreaterThanOrEqual(1);
    expect(defaultThreads()).toBeLessThanOrEqual(Math.min(availableParallelism(), 16));
  });

  it.skipIf(process.platform !== 'linux')('is 1 for a process that is held to one CPU', () => {
    const allowed = /^Cpus_allowed_list:\s*(\d+)/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '0';
    const addon = fileURLToPath(new URL('../native/filigree.node', import.meta.url));
    const program = `console.log(require(${JSON.stringify(addon)}).defaultThreads())`;
    const { stdout } = spawnSync('taskset', ['-c', allowed, process.execPath, '-e', program], { encoding: 'utf8' });
    expect(stdout.trim()).toBe('1');
  });
});

describe('the built addon', () => {
  it('has no SIMD intrinsic that was left a function: those cost a hundred times what they do', () => {
    const addon = new URL('../native/filigree.node', import.meta.url);
    const names = readFileSync(addon, 'latin1').match(/_mm(?:256|512)?_[a-z0-9_]+/g) ?? [];
    expect([...new Set(names)]).toEqual([]);
  });
});
