import { adapterAdvice, getGpu } from '#gpu';
import {
  BackendUnavailableError,
  OptionError,
  type FallbackPolicy,
  type ShaderVariant,
  type WebGpuLimits,
} from '@filigree/core-tensor';
import type { RecorderLimits } from './recorder.js';
import { WebGpuBackend } from './webgpu-backend.js';

export interface WebGpuBackendOptions {
  /** A device of your own; it is not destroyed by `dispose()`. Default: one with all features and limits the adapter grants. */
  readonly device?: GPUDevice | undefined;
  /** An adapter of your own. Default: the one that `powerPreference` chooses. */
  readonly adapter?: GPUAdapter | undefined;
  readonly powerPreference?: GPUPowerPreference | undefined;
  /** What to do for an op without a WebGPU kernel. Default `warn`: run the reference. */
  readonly fallback?: FallbackPolicy | undefined;
  /** Shader variants that may be used where the device has the feature. Default: all. */
  readonly variants?: Partial<ShaderVariant> | undefined;
  /** Keeps to lower limits than the device's: smaller bindings, fewer workgroups along an axis. For tests of what large tensors do. */
  readonly limits?: Partial<WebGpuLimits> | undefined;
}

const limitNames = [
  'maxComputeWorkgroupSizeX',
  'maxComputeInvocationsPerWorkgroup',
  'maxComputeWorkgroupStorageSize',
  'maxComputeWorkgroupsPerDimension',
  'maxStorageBufferBindingSize',
  'maxStorageBuffersPerShaderStage',
] as const satisfies readonly (keyof WebGpuLimits)[];

/**
 * The backend on a GPU.
 * @throws BackendUnavailableError where there is no WebGPU or no adapter; it says what to install.
 */
export async function createWebGpuBackend(options: WebGpuBackendOptions = {}): Promise<WebGpuBackend> {
  const gpu = options.device || options.adapter ? undefined : await getGpu();
  const adapter = options.device ? undefined : (options.adapter ?? (await requestAdapter(gpu, options)));
  const device = options.device ?? (await requestDevice(adapter));
  const info = device.adapterInfo as GPUAdapterInfo | undefined;
  const description = [info?.vendor, info?.architecture, info?.description].filter((part) => part).join(' ') || 'webgpu';
  return new WebGpuBackend({
    device,
    gpu,
    ownsDevice: !options.device,
    description,
    variants: {
      f16: device.features.has('shader-f16') && options.variants?.f16 !== false,
      dot4: hasDot4(gpu) && options.variants?.dot4 !== false,
      subgroups: device.features.has('subgroups') && options.variants?.subgroups !== false,
    },
    limits: limitsOf(device, options.limits ?? {}),
    fallback: options.fallback,
  });
}

/** A feature of the shading language and not of the device; a device that came without its entry point has the runtime's. */
function hasDot4(gpu: GPU | undefined): boolean {
  const entry = gpu ?? (globalThis as { navigator?: { gpu?: GPU } }).navigator?.gpu;
  const features = entry?.wgslLanguageFeatures as ReadonlySet<string> | undefined;
  return features?.has('packed_4x8_integer_dot_product') ?? false;
}

async function requestAdapter(gpu: GPU | undefined, { powerPreference }: WebGpuBackendOptions): Promise<GPUAdapter> {
  const adapter = await gpu?.requestAdapter(powerPreference ? { powerPreference } : {});
  if (!adapter) throw new BackendUnavailableError(`WebGPU found no GPU adapter: ${adapterAdvice}`);
  return adapter;
}

/** A device with every feature this backend can use and every limit at the adapter's best. */
async function requestDevice(adapter: GPUAdapter | undefined): Promise<GPUDevice> {
  if (!adapter) throw new BackendUnavailableError(`WebGPU found no GPU adapter: ${adapterAdvice}`);
  const features = (['shader-f16', 'subgroups', 'timestamp-query'] as const).filter((name) => adapter.features.has(name));
  const limits = Object.fromEntries([...limitNames, 'maxBufferSize' as const].map((name) => [name, adapter.limits[name]]));
  try {
    return await adapter.requestDevice({ label: 'filigree', requiredFeatures: features, requiredLimits: limits });
  } catch (cause) {
    throw new BackendUnavailableError(
      `WebGPU: the adapter gave no device: ${cause instanceof Error ? cause.message : String(cause)}`,
      { cause },
    );
  }
}

function limitsOf(device: GPUDevice, lower: Partial<WebGpuLimits>): RecorderLimits {
  for (const [name, value] of Object.entries(lower)) {
    if (!(limitNames as readonly string[]).includes(name))
      throw new OptionError(`createWebGpuBackend: unknown limit '${name}'; known are ${limitNames.join(', ')}`);
    if (!Number.isInteger(value) || value < 1)
      throw new OptionError(`createWebGpuBackend: limit ${name} is ${value}, it must be a positive integer`);
  }
  const limit = (name: keyof WebGpuLimits): number => Math.min(device.limits[name], lower[name] ?? Infinity);
  const alignment = device.limits.minStorageBufferOffsetAlignment;
  const bindingBytes = limit('maxStorageBufferBindingSize') - (limit('maxStorageBufferBindingSize') % 4);
  if (bindingBytes < 2 * alignment)
    throw new OptionError(
      `createWebGpuBackend: limit maxStorageBufferBindingSize is ${bindingBytes}, at least ${2 * alignment} are needed`,
    );
  return {
    maxComputeWorkgroupSizeX: limit('maxComputeWorkgroupSizeX'),
    maxComputeInvocationsPerWorkgroup: limit('maxComputeInvocationsPerWorkgroup'),
    maxComputeWorkgroupStorageSize: limit('maxComputeWorkgroupStorageSize'),
    maxComputeWorkgroupsPerDimension: limit('maxComputeWorkgroupsPerDimension'),
    maxStorageBuffersPerShaderStage: limit('maxStorageBuffersPerShaderStage'),
    // What aligning the start of a range and rounding its end can add.
    maxStorageBufferBindingSize: bindingBytes - alignment,
    bindingBytes,
    alignment,
    maxGroupsY: device.limits.maxComputeWorkgroupsPerDimension,
  };
}
