import { createWebGpuBackend } from '@filigree/backend-webgpu';
import { BackendUnavailableError, createReferenceBackend, type Backend } from '@filigree/core-tensor';

/** WebGPU where the browser has it, else the portable backend, which one line says. */
export async function defaultBackend(_options: { threads?: number | undefined } = {}): Promise<Backend> {
  try {
    return await createWebGpuBackend();
  } catch (error) {
    if (!(error instanceof BackendUnavailableError)) throw error;
    console.warn(`filigree: ${error.message}; computing with the portable backend, about a hundred times slower`);
    return createReferenceBackend();
  }
}
