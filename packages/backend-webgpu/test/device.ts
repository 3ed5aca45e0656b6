import { createWebGpuBackend, type WebGpuBackend, type WebGpuBackendOptions } from '@filigree/backend-webgpu';
import { useSoftwareGpu } from '@filigree/testing';

/** A backend on the device of the tests. */
export function testBackend(options: WebGpuBackendOptions = {}): Promise<WebGpuBackend> {
  useSoftwareGpu();
  return createWebGpuBackend({ fallback: 'error', ...options });
}
