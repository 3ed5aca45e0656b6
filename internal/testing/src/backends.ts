import { cpuPaths, createNativeBackend } from '@filigree/backend-native';
import { createWebGpuBackend, type WebGpuBackendOptions } from '@filigree/backend-webgpu';
import type { AnyOp, Backend } from '@filigree/core-tensor';
import { useSoftwareGpu } from './software-gpu.js';

/** A backend variant the conformance suite runs every op on. */
export interface BackendUnderTest {
  /** As in test names: `native/avx2`, `webgpu/plain`. */
  readonly name: string;
  readonly kind: 'native' | 'webgpu';
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
    variant: () => cpu,
    exactSpecials: true,
    create: () => Promise.resolve(createNativeBackend({ cpu, threads: 2, fallback: 'error' })),
  }));
}

/** Bindings and grids so small that the shapes of generated cases must be split; wide enough for one row of each. */
export const tinyLimits = { maxStorageBufferBindingSize: 4096, maxComputeWorkgroupsPerDimension: 3 } as const;

function webGpu(name: string, options: WebGpuBackendOptions, wanted: 'subgroups' | undefined): BackendUnderTest {
  return {
    name: `webgpu/${name}`,
    kind: 'webgpu',
    variant: (op) => (wanted && op.webgpu?.variants?.includes(wanted) ? wanted : 'plain'),
    exactSpecials: false,
    async create(ops) {
      useSoftwareGpu();
      const backend = await createWebGpuBackend({ fallback: 'error', ...options });
      await backend.prepare(ops);
      const wrong = backend.disabledVariants.map(({ op, variant, reason }) => `${op} ${variant}: ${reason}`);
      if (wrong.length > 0) throw new Error(`variants were disabled by their self-test:\n${wrong.join('\n')}`);
      if (wanted && !backend.capabilities[wanted]) throw new Error(`the WebGPU device of the tests has no ${wanted}`);
      return backend;
    },
  };
}

/**
 * The plain shaders; those for devices with subgroups; and the plain ones on a device that says its limits are tiny. SwiftShader, the device
 * of the tests, has no f16.
 */
export function webGpuBackends(): BackendUnderTest[] {
  const plain = { f16: false, subgroups: false };
  return [
    webGpu('plain', { variants: plain }, undefined),
    webGpu('subgroups', { variants: { f16: false } }, 'subgroups'),
    webGpu('tiny', { variants: plain, limits: tinyLimits }, undefined),
  ];
}

/** Everything the suite compares with the reference. A backend that cannot be created fails the suite; it is never skipped. */
export function backendsUnderTest(): BackendUnderTest[] {
  return [...nativeBackends(), ...webGpuBackends()];
}
