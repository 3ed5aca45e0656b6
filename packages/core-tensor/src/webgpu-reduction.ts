import plain from '@filigree/wgsl/common/reduce-plain.wgsl';
import subgroups from '@filigree/wgsl/common/reduce-subgroups.wgsl';
import type { ShaderVariant } from './webgpu-kernel.js';
import { composedShader } from './webgpu-plan.js';

/** The shader of an op behind the definitions of `workgroup_sum` and `workgroup_max` that suit the variant. */
export function withReduction(op: string, variant: ShaderVariant, shader: string): string {
  return variant.subgroups
    ? composedShader(`${op} subgroups`, () => `${subgroups}\n${shader}`)
    : composedShader(`${op} plain`, () => `${plain}\n${shader}`);
}
