export { loadAddon, platformPackage } from './load-addon.js';
export { createNativeBackend, NativeBackend, type NativeBackendOptions } from './native-backend.js';

import { loadAddon } from './load-addon.js';

/** CPU paths of this machine, lowest first. */
export function cpuPaths(): string[] {
  return loadAddon().cpuPaths();
}

/**
 * Threads of a backend that is not told how many: the physical cores that affinity and the CPU quota of a container leave to this process,
 * at most 16. Outside of Linux, where it is not known which CPUs share a core, the CPUs.
 */
export function defaultThreads(): number {
  return loadAddon().defaultThreads();
}

/** Names and layout hashes of the ops in the loaded addon. */
export function addonOps(): { name: string; hash: string }[] {
  return loadAddon().opTable();
}
