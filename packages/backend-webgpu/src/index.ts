/// <reference types="@webgpu/types" preserve="true" />

export { createWebGpuBackend, type WebGpuBackendOptions } from './create-webgpu-backend.js';
export { type DisabledVariant } from './variants.js';
export { WebGpuBackend } from './webgpu-backend.js';
