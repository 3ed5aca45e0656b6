import type { AttributeValue } from './attributes.js';
import type { OpCase, TensorMeta } from './op.js';

/** What a plan may adapt to. Limits are those of the device the backend runs on, or lower ones it was told to keep to. */
export interface WebGpuLimits {
  readonly maxComputeWorkgroupSizeX: number;
  readonly maxComputeInvocationsPerWorkgroup: number;
  readonly maxComputeWorkgroupStorageSize: number;
  readonly maxComputeWorkgroupsPerDimension: number;
  /** Bytes that a range of a tensor may have: the device's limit less what aligning its start can add. */
  readonly maxStorageBufferBindingSize: number;
  readonly maxStorageBuffersPerShaderStage: number;
}

/** Which variant of a shader is wanted; chosen by the device's features, tests force each. */
export interface ShaderVariant {
  readonly f16: boolean;
  /** WGSL's dots of four signed bytes in a word, `packed_4x8_integer_dot_product`. */
  readonly dot4: boolean;
  readonly subgroups: boolean;
}

/** One word of a uniform block. */
export interface UniformWord {
  readonly type: 'u32' | 'i32' | 'f32';
  readonly value: number;
}

/** Byte sub-ranges of arguments, from the start of the tensor. Those left out are bound whole. */
export type BindingRanges = Readonly<Record<string, { readonly byteOffset: number; readonly byteLength: number }>>;

/**
 * One dispatch. Bindings are the op's inputs in declared order (absent optional ones are skipped), then its outputs, then `scratch` where the
 * kernel asks for some, then one uniform buffer.
 * The uniform buffer starts with one u32 per binding: the offset of the range's first element, counted in elements of the tensor's dtype,
 * from the start of the (aligned-down) binding; padded to a multiple of four words; then `uniforms`. Every range starts on a word: views
 * that do not are copied first.
 */
export interface WebGpuDispatch {
  /**
   * Workgroup counts; an x above the device's limit is folded into y by the backend: shaders compute `group.y * groups.x + group.x` and
   * leave when that is past the end.
   */
  readonly workgroups: readonly [number, number?, number?];
  readonly entryPoint?: string;
  /** Pipeline-overridable constants, part of the pipeline key. */
  readonly constants?: Readonly<Record<string, number>>;
  /** Words after the offsets, in the order of the shader's struct. */
  readonly uniforms?: readonly UniformWord[];
  /** For tensors above the binding limit: what of each argument this dispatch reads or writes. */
  readonly ranges?: BindingRanges;
}

export interface WebGpuKernel {
  /** Complete WGSL module per variant; text from kernels/wgsl, inlined at build. */
  readonly shader: (
    variant: ShaderVariant,
    io: Readonly<Record<string, TensorMeta | undefined>>,
    attributes: Readonly<Record<string, AttributeValue>>,
  ) => string;
  /** Variants worth having beside the plain one. A variant runs only after it gave the right result of `selfTest` on the device. */
  readonly variants?: readonly (keyof ShaderVariant)[];
  /** Small calls that take the paths on which the variants differ. Required by `variants`. */
  readonly selfTest?: () => OpCase | readonly OpCase[];
  /** Bytes of workspace that the op's dispatches share as binding `scratch`, counted in words; 0: none. Its contents are undefined at first. */
  readonly scratch?: (
    io: Readonly<Record<string, TensorMeta | undefined>>,
    attributes: Readonly<Record<string, AttributeValue>>,
    limits: WebGpuLimits,
    variant: ShaderVariant,
  ) => number;
  readonly plan: (
    io: Readonly<Record<string, TensorMeta | undefined>>,
    attributes: Readonly<Record<string, AttributeValue>>,
    limits: WebGpuLimits,
    variant: ShaderVariant,
  ) => readonly WebGpuDispatch[];
}
