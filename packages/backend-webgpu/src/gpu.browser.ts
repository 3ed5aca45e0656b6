import { BackendUnavailableError } from '@filigree/core-tensor';

/** The GPU entry point of the browser. */
export function getGpu(): Promise<GPU> {
  const own = (globalThis as { navigator?: { gpu?: GPU } }).navigator?.gpu;
  if (!own) {
    return Promise.reject(
      new BackendUnavailableError(
        'This browser has no WebGPU, or the page is not served over https (or localhost); see https://caniuse.com/webgpu',
      ),
    );
  }
  return Promise.resolve(own);
}

/** What to do where there is no adapter. */
export const adapterAdvice = 'hardware acceleration may be switched off in the browser, or the GPU is on its blocklist';
