import plain from '@filigree/wgsl/common/reduce-plain.wgsl';
import subgroups from '@filigree/wgsl/common/reduce-subgroups.wgsl';
import type { ShaderVariant } from './webgpu-kernel.js';

/** A shader behind the definitions of `workgroup_sum` and `workgroup_max` that suit the variant. */
export function withReduction(variant: ShaderVariant, shader: string): string {
  return `${variant.subgroups ? subgroups : plain}\n${shader}`;
}
