import type { AttributeValue } from './attributes.js';
import type { TensorMeta } from './op.js';

/** What a plan may adapt to. Limits are those of the device the backend runs on. */
export interface WebGpuLimits {
  readonly maxComputeWorkgroupSizeX: number;
  readonly maxComputeInvocationsPerWorkgroup: number;
  readonly maxComputeWorkgroupStorageSize: number;
  readonly maxComputeWorkgroupsPerDimension: number;
  readonly maxStorageBufferBindingSize: number;
  readonly maxStorageBuffersPerShaderStage: number;
}

/** Which variant of a shader is wanted; chosen by the device's features, tests force each. */
export interface ShaderVariant {
  readonly f16: boolean;
  readonly subgroups: boolean;
}

/**
 * One dispatch. Bindings are the op's inputs in declared order (absent optional ones are skipped), then its outputs, then one uniform buffer.
 * The uniform buffer starts with one u32 per binding: the offset of the tensor's first element, counted in elements of the array the shader
 * declares, from the start of the (aligned-down) binding; padded to a multiple of four words; then `uniforms`.
 */
export interface WebGpuDispatch {
  /** Workgroup counts; grids above 65,535 in x are folded into y by the backend, which shaders undo with `workgroupIndex`. */
  readonly workgroups: readonly [number, number?, number?];
  readonly entryPoint?: string;
  /** Pipeline-overridable constants, part of the pipeline key. */
  readonly constants?: Readonly<Record<string, number>>;
  /** Words after the offsets, in the order of the shader's struct. */
  readonly uniforms?: readonly { readonly type: 'u32' | 'i32' | 'f32'; readonly value: number }[];
  /** Byte sub-range of an argument that this dispatch reads or writes; for tensors above the binding limit. */
  readonly ranges?: Readonly<Record<string, { readonly byteOffset: number; readonly byteLength: number }>>;
}

export interface WebGpuKernel {
  /** Complete WGSL module per variant; text from kernels/wgsl, inlined at build. */
  readonly shader: (
    variant: ShaderVariant,
    io: Readonly<Record<string, TensorMeta | undefined>>,
    attributes: Readonly<Record<string, AttributeValue>>,
  ) => string;
  /** Variants worth having beside the plain one. */
  readonly variants?: readonly (keyof ShaderVariant)[];
  readonly plan: (
    io: Readonly<Record<string, TensorMeta | undefined>>,
    attributes: Readonly<Record<string, AttributeValue>>,
    limits: WebGpuLimits,
    variant: ShaderVariant,
  ) => readonly WebGpuDispatch[];
}
