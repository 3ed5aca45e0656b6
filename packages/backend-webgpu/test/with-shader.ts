import type { AnyOp } from '@filigree/core-tensor';

/** The op with its WGSL changed; the same contract otherwise. */
export function withShader(op: AnyOp, change: (shader: string) => string): AnyOp {
  const { webgpu } = op;
  if (!webgpu) throw new Error(`${op.name} has no shader to change`);
  const { variants: _variants, ...kernel } = webgpu;
  return {
    ...op,
    name: op.name,
    webgpu: {
      ...kernel,
      shader: (variant, io, attributes) => {
        const original = webgpu.shader(variant, io, attributes);
        const changed = change(original);
        if (changed === original) throw new Error(`${op.name}: the shader does not have what was to be changed`);
        return changed;
      },
    },
  };
}
