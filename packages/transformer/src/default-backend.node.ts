import { BackendUnavailableError, createReferenceBackend, type Backend } from '@filigree/core-tensor';

/** A module that is not installed, or an addon or GPU that is not there: the next backend is tried. */
function isMissing(error: unknown): boolean {
  if (error instanceof BackendUnavailableError) return true;
  return error instanceof Error && 'code' in error && error.code === 'ERR_MODULE_NOT_FOUND';
}

/** Native where its addon is there, else WebGPU, else the portable backend; one line says so when it is not native. */
export async function defaultBackend({ threads }: { threads?: number | undefined } = {}): Promise<Backend> {
  try {
    const { createNativeBackend } = await import('@filigree/backend-native');
    return createNativeBackend({ threads });
  } catch (error) {
    if (!isMissing(error)) throw error;
  }
  try {
    const { createWebGpuBackend } = await import('@filigree/backend-webgpu');
    const backend = await createWebGpuBackend();
    console.warn(`filigree: no native addon for ${process.platform}-${process.arch}; computing with WebGPU`);
    return backend;
  } catch (error) {
    if (!isMissing(error)) throw error;
  }
  console.warn(
    `filigree: neither a native addon for ${process.platform}-${process.arch} nor WebGPU; computing with the portable backend, about a hundred times slower`,
  );
  return createReferenceBackend();
}
