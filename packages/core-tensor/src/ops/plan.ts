import type { WebGpuDispatch } from '../webgpu-kernel.js';

/** Invocations per workgroup of the element-by-element shaders. */
export const elementwiseGroup = 64;

/** One invocation per element (or per word); the first uniform is the count, `extra` follows. */
export function elementwiseDispatch(count: number, extra: NonNullable<WebGpuDispatch['uniforms']> = []): WebGpuDispatch[] {
  return [{ workgroups: [Math.ceil(count / elementwiseGroup)], uniforms: [{ type: 'u32', value: count }, ...extra] }];
}

/** A u32 uniform. */
export function u32(value: number): { readonly type: 'u32'; readonly value: number } {
  return { type: 'u32', value };
}

/** An i32 uniform. */
export function i32(value: number): { readonly type: 'i32'; readonly value: number } {
  return { type: 'i32', value };
}

/** An f32 uniform. */
export function f32(value: number): { readonly type: 'f32'; readonly value: number } {
  return { type: 'f32', value };
}
