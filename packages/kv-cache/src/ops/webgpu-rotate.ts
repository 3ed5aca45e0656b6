import { composedShader, cut, uniform, type WebGpuKernel } from '@filigree/core-tensor';
import { bindings } from '@filigree/sparse-attention';
import rotate from '@filigree/wgsl/kv-cache/rotate.wgsl';

/** A workgroup per row. */
export const rotateKernel: WebGpuKernel = {
  shader(_, io) {
    const dim = io['x']?.shape.at(-1) ?? 1;
    return composedShader(`kv-cache/rotate ${dim}`, () => {
      const { text, offsetWords } = bindings(io, ['x'], ['y'], {});
      return rotate
        .replace('/* bindings */', text)
        .replaceAll('OFFSET_WORDS', String(offsetWords))
        .replaceAll('DIM', `${dim}u`);
    });
  },
  plan({ x }, { seed, inverse }, limits) {
    if (!x) return [];
    const dim = x.shape.at(-1) ?? 1;
    const rows = x.shape.slice(0, -1).reduce((product, size) => product * size, 1);
    return cut(rows, { x: 4 * dim, y: 4 * dim }, limits).map(({ count, ranges }) => ({
      workgroups: [count],
      uniforms: [...[count, Number(seed), inverse ? 1 : 0].map(uniform.u32), uniform.f32(1 / Math.sqrt(dim))],
      ranges,
    }));
  },
};
