import { BackendUnavailableError } from '@filigree/core-tensor';

/** Made once and never collected: Dawn's threads do not survive an instance that goes before its devices do. */
let instance: Promise<GPU> | undefined;

/** The GPU entry point: the runtime's own (Deno), else Dawn from the optional package `webgpu`. */
export async function getGpu(): Promise<GPU> {
  const own = (globalThis as { navigator?: { gpu?: GPU } }).navigator?.gpu;
  if (own) return own;
  instance ??= createInstance();
  try {
    return await instance;
  } catch (error) {
    instance = undefined;
    throw error;
  }
}

async function createInstance(): Promise<GPU> {
  let dawn: { create(options: string[]): GPU };
  try {
    dawn = await import('webgpu');
  } catch (cause) {
    throw new BackendUnavailableError(
      `The WebGPU backend needs the package 'webgpu' (Dawn) in Node ${process.versions.node}: npm install webgpu`,
      { cause },
    );
  }
  return dawn.create([]);
}

/** What to do where there is no adapter. */
export const adapterAdvice =
  process.platform === 'linux'
    ? 'it needs a Vulkan driver and the loader libvulkan.so.1 (Debian: apt-get install libvulkan1 mesa-vulkan-drivers); a software one is chosen with VK_ICD_FILENAMES'
    : 'it needs a graphics driver with Direct3D 12, Metal or Vulkan';
