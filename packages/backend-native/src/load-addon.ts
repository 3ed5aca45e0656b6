import { BackendUnavailableError, BackendVersionError } from '@filigree/core-tensor';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Addon } from './addon.js';

/** Version of the message format this package speaks. */
export const abi = 1;

let loaded: Addon | undefined;

/**
 * Finds the addon: `FILIGREE_NATIVE_ADDON`, then the prebuilt package of this platform, then a local build.
 * @throws BackendUnavailableError saying what is missing and how to get it.
 */
export function loadAddon(): Addon {
  if (loaded) return loaded;
  const require = createRequire(import.meta.url);
  const failures: string[] = [];
  for (const candidate of candidates()) {
    try {
      if (candidate.startsWith('/') || /^[a-z]:/i.test(candidate)) {
        if (!existsSync(candidate)) continue;
      }
      const addon = require(candidate) as Addon;
      if (addon.ABI !== abi) {
        throw new BackendVersionError(
          `The native addon ${candidate} speaks message format ${addon.ABI}, this package ${abi}: install matching versions or build again`,
        );
      }
      loaded = addon;
      return addon;
    } catch (error) {
      if (error instanceof BackendVersionError) throw error;
      if (!isModuleNotFound(error)) failures.push(`${candidate}: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
  throw new BackendUnavailableError(
    `The native backend has no addon for ${platformPackage()}; in a clone run 'node kernels/native/build.mjs' (needs cargo). ` +
      `The portable backend works without it, about a hundred times slower.${failures.length > 0 ? ` Tried: ${failures.join('; ')}` : ''}`,
  );
}

function candidates(): string[] {
  const here = dirname(fileURLToPath(import.meta.url));
  const fromEnvironment = process.env.FILIGREE_NATIVE_ADDON;
  // An explicit path is the only one tried: falling through would hide a mistake in it.
  if (fromEnvironment) return [fromEnvironment];
  return [platformPackage(), join(here, '..', 'native', 'filigree.node')];
}

/** Name of the optional package that carries this platform's prebuilt addon. */
export function platformPackage(): string {
  const libc = process.platform === 'linux' ? '-gnu' : process.platform === 'win32' ? '-msvc' : '';
  return `@filigree/backend-native-${process.platform}-${process.arch}${libc}`;
}

function isModuleNotFound(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'MODULE_NOT_FOUND';
}
