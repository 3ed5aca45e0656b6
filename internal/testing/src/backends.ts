import { cpuPaths, createNativeBackend } from '@filigree/backend-native';
import type { Backend } from '@filigree/core-tensor';

/** A backend variant the conformance suite runs every op on. */
export interface BackendUnderTest {
  /** As in test names: `native/avx2`, `webgpu/plain`. */
  readonly name: string;
  readonly kind: 'native' | 'webgpu';
  /** What `profile()` must report. */
  readonly variant: string;
  /** NaN and ∞ must come out as the reference has them. */
  readonly exactSpecials: boolean;
  create(): Promise<Backend>;
}

/** Every native CPU path of this machine. */
export function nativeBackends(): BackendUnderTest[] {
  return cpuPaths().map((cpu) => ({
    name: `native/${cpu}`,
    kind: 'native',
    variant: cpu,
    exactSpecials: true,
    create: () => Promise.resolve(createNativeBackend({ cpu, threads: 2, fallback: 'error' })),
  }));
}

/** Everything the suite compares with the reference. A backend that cannot be created fails the suite; it is never skipped. */
export function backendsUnderTest(): BackendUnderTest[] {
  return nativeBackends();
}
