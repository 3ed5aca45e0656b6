import { createNativeBackend } from '@filigree/backend-native';
import { createWebGpuBackend } from '@filigree/backend-webgpu';
import { BackendUnavailableError, createReferenceBackend, type Backend } from '@filigree/core-tensor';
import type { Context } from './context.js';
import { UsageError } from './errors.js';
import type { BackendName } from './options/model-options.js';
import { runApart } from './run-apart.js';

export interface BackendChoice {
  /** Without a name: native, else WebGPU, else the portable one, which `note` says on one line. */
  readonly backend?: BackendName;
  readonly threads?: number;
}

/** Creates the backend that was asked for, or the best there is. */
export async function openBackend(
  { backend, threads }: BackendChoice,
  { io, note, signal }: Pick<Context, 'io' | 'note' | 'signal'>,
): Promise<Backend> {
  if (threads !== undefined && backend !== undefined && backend !== 'native')
    throw new UsageError(`option '--threads <n>' is for the native backend; --backend is ${backend}`);
  if (backend === undefined) return bestBackend(threads, { io, note, signal });
  switch (backend) {
    case 'native':
      return createNativeBackend({ threads });
    case 'webgpu':
      return createWebGpuBackend();
    case 'reference':
      return createReferenceBackend();
  }
}

async function bestBackend(
  threads: number | undefined,
  { io, note, signal }: Pick<Context, 'io' | 'note' | 'signal'>,
): Promise<Backend> {
  try {
    return createNativeBackend({ threads });
  } catch (error) {
    if (!(error instanceof BackendUnavailableError)) throw error;
  }
  const here = `No native addon for ${process.platform}-${process.arch}`;
  // Looked for in another process: where there is no GPU, the driver's loader says so at length on standard error.
  const found = await runApart(['probe-webgpu'], io, signal).catch((error: unknown) => {
    if (signal.aborted) throw error;
    return undefined;
  });
  if (found !== undefined) {
    const webgpu = await createWebGpuBackend();
    note(`${here}: computing with WebGPU on ${webgpu.capabilities.device}.`);
    return webgpu;
  }
  note(`${here} and no GPU: computing with the portable backend, expect it to be about a hundred times slower.`);
  return createReferenceBackend();
}
