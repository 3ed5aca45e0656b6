import { createWebGpuBackend } from '@filigree/backend-webgpu';
import { BackendUnavailableError, createReferenceBackend, type Backend } from '@filigree/core-tensor';
import { formatBytes } from '../format.js';

/** What the page computes on. */
export interface Device {
  readonly backend: Backend;
  /** One line about it. */
  readonly words: string;
  /** Why it is not the GPU. */
  readonly warning: string | undefined;
  close(): void;
}

/** Opens the GPU, or where there is none the portable backend. `onLost` is told of a GPU that goes away before `close`. */
export async function openDevice(onLost: (message: string) => void): Promise<Device> {
  let closed = false;
  try {
    const backend = await createWebGpuBackend();
    void backend.device.lost.then(({ message }) => {
      if (!closed) onLost(message);
    });
    const { device, f16, subgroups, limits } = backend.capabilities;
    const parts = [`WebGPU on ${device}`, `f16 ${yes(f16)}`, `subgroups ${yes(subgroups)}`];
    if (limits['maxBufferSize']) parts.push(`buffers to ${formatBytes(limits['maxBufferSize'])}`);
    return {
      backend,
      words: parts.join(' · '),
      warning: undefined,
      close() {
        closed = true;
        backend.dispose();
      },
    };
  } catch (error) {
    if (!(error instanceof BackendUnavailableError)) throw error;
    const backend = createReferenceBackend();
    const warning = `${error.message} The portable backend computes instead, about a hundred times slower.`;
    return { backend, words: 'no GPU · portable backend', warning, close: () => backend.dispose() };
  }
}

function yes(value: boolean): string {
  return value ? 'yes' : 'no';
}
