export { loadAddon, platformPackage } from './load-addon.js';
export { createNativeBackend, NativeBackend, type NativeBackendOptions } from './native-backend.js';

import { loadAddon } from './load-addon.js';

/** CPU paths of this machine, lowest first. */
export function cpuPaths(): string[] {
  return loadAddon().cpuPaths();
}

/** Names and layout hashes of the ops in the loaded addon. */
export function addonOps(): { name: string; hash: string }[] {
  return loadAddon().opTable();
}
