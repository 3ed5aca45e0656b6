import { existsSync } from 'node:fs';

/** Where Chromium's packages put the description of SwiftShader, the software Vulkan driver that comes with it. */
const descriptions = [
  '/usr/lib/chromium/vk_swiftshader_icd.json',
  '/usr/lib/chromium-browser/vk_swiftshader_icd.json',
  '/usr/lib64/chromium-browser/vk_swiftshader_icd.json',
  '/opt/google/chrome/vk_swiftshader_icd.json',
];

/**
 * Makes Dawn, the WebGPU of Node, use SwiftShader where there is one and nobody chose a driver: the same device on every Linux machine.
 * Must run before the first adapter of the process is asked for.
 */
export function useSoftwareGpu(): void {
  if (process.platform !== 'linux' || process.env['VK_ICD_FILENAMES'] !== undefined) return;
  const found = descriptions.find((path) => existsSync(path));
  if (found !== undefined) process.env['VK_ICD_FILENAMES'] = found;
}
