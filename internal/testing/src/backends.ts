import { cpuPaths, createNativeBackend } from '@filigree/backend-native';
import { createWebGpuBackend, type WebGpuBackendOptions } from '@filigree/backend-webgpu';
import type { AnyOp, Backend, ShaderVariant } from '@filigree/core-tensor';
import { useSoftwareGpu } from './software-gpu.js';

/** A backend variant the conformance suite runs every op on. */
export interface BackendUnderTest {
  /** As in test names: `native/avx2`, `webgpu/plain`. */
  readonly name: string;
  readonly kind: 'native' | 'webgpu';
  /** Whether the op has what sets this variant apart; where it has not, another one already covers it. */
  covers(op: AnyOp): boolean;
  /** What `profile()` must report for an op. */
  variant(op: AnyOp): string;
  /** NaN and ∞ must come out as the reference has them. */
  readonly exactSpecials: boolean;
  /** A backend without fallback on which the ops' variants are tested and none was found wrong. */
  create(ops: readonly AnyOp[]): Promise<Backend>;
}

/** Every native CPU path of this machine. */
export function nativeBackends(): BackendUnderTest[] {
  return cpuPaths().map((cpu) => ({
    name: `native/${cpu}`,
    kind: 'native',
    covers: () => true,
    variant: () => cpu,
    exactSpecials: true,
    create: () => Promise.resolve(createNativeBackend({ cpu, threads: 2, fallback: 'error' })),
  }));
}

/** Bindings and grids so small that the shapes of generated cases must be split; wide enough for one row of each. */
export const tinyLimits = { maxStorageBufferBindingSize: 4096, maxComputeWorkgroupsPerDimension: 3 } as const;

/** The plain shaders but for `parts`, of which an op runs those it has. `special`: only ops that have the first. */
function webGpu(
  name: string,
  parts: readonly ('dot4' | 'subgroups')[],
  { special = false, limits }: { special?: boolean; limits?: WebGpuBackendOptions['limits'] } = {},
): BackendUnderTest {
  const has = (op: AnyOp, part: keyof ShaderVariant): boolean => op.webgpu?.variants?.includes(part) ?? false;
  const variants = { f16: false, dot4: parts.includes('dot4'), subgroups: parts.includes('subgroups') };
  return {
    name: `webgpu/${name}`,
    kind: 'webgpu',
    covers: (op) => !special || has(op, parts[0]),
    variant: (op) => parts.filter((part) => has(op, part)).join('+') || 'plain',
    exactSpecials: false,
    async create(ops) {
      useSoftwareGpu();
      const backend = await createWebGpuBackend({ fallback: 'error', variants, limits });
      await backend.prepare(ops);
      const wrong = backend.disabledVariants.map(({ op, variant, reason }) => `${op} ${variant}: ${reason}`);
      if (wrong.length > 0) throw new Error(`variants were disabled by their self-test:\n${wrong.join('\n')}`);
      for (const part of parts)
        if (!backend.capabilities[part]) throw new Error(`the WebGPU device of the tests has no ${part}`);
      return backend;
    },
  };
}

/**
 * The plain shaders; those for devices with subgroups, with packed dots, and with both; and the plain ones on a device that says its limits
 * are tiny. SwiftShader, the device of the tests, has no f16.
 */
export function webGpuBackends(): BackendUnderTest[] {
  return [
    webGpu('plain', []),
    webGpu('subgroups', ['subgroups']),
    webGpu('dot4', ['dot4'], { special: true }),
    webGpu('dot4+subgroups', ['dot4', 'subgroups'], { special: true }),
    webGpu('tiny', [], { limits: tinyLimits }),
  ];
}

/** Everything the suite compares with the reference. A backend that cannot be created fails the suite; it is never skipped. */
export function backendsUnderTest(): BackendUnderTest[] {
  return [...nativeBackends(), ...webGpuBackends()];
}
