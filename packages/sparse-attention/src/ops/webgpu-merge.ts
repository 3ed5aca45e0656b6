import { composedShader, cut, groupsFor, sizeOf, uniform, type WebGpuKernel } from '@filigree/core-tensor';
import source from '@filigree/wgsl/sparse-attention/merge.wgsl';
import { bindings } from './webgpu-bindings.js';

export const mergeKernel: WebGpuKernel = {
  shader: (_, io) =>
    composedShader(`sparse-attention/merge ${io['otherO'] !== undefined}`, () => {
      const declared = bindings(io, ['o', 'lse', 'otherO', 'otherLse'], ['merged', 'mergedLse'], {});
      const other = io['otherO'] ? 'otherO[otherO_offset() + index]' : '0.0';
      return source
        .replace('/* bindings */', `${declared.text}\nfn other_value(index: u32) -> f32 { return ${other}; }`)
        .replaceAll('OFFSET_WORDS', String(declared.offsetWords));
    }),
  plan({ o, otherO, otherLse }, { queryLayout }, limits) {
    if (!o || !otherLse || sizeOf(o.shape) === 0) return [];
    const headsFirst = queryLayout === 'bhld';
    const [heads, length] = headsFirst ? [o.shape[1], o.shape[2]] : [o.shape[2], o.shape[1]];
    const [dim, perHead] = [o.shape[3], otherLse.shape.length === 1];
    const values = { o: 4 * dim, merged: 4 * dim, ...(otherO ? { otherO: 4 * dim } : {}) };
    const rows = { lse: 4, mergedLse: 4, ...(perHead ? {} : { otherLse: 4 }) };
    return cut(sizeOf(o.shape) / dim, headsFirst ? { ...values, ...rows } : values, limits).map(({ start, count, ranges }) => ({
      workgroups: groupsFor(count * dim),
      uniforms: [
        ...[count * dim, start, headsFirst && 'lse' in ranges ? start : 0, dim],
        ...[heads, length, headsFirst ? 1 : 0, perHead ? 1 : 0],
      ].map(uniform.u32),
      ranges,
    }));
  },
};
