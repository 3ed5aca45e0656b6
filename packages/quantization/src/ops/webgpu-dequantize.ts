import { composedShader, cut, groupsFor, uniform, type WebGpuKernel } from '@filigree/core-tensor';
import dequantizeFloats from '@filigree/wgsl/quantization/dequantize-floats.wgsl';
import dequantizeGroups from '@filigree/wgsl/quantization/dequantize-groups.wgsl';
import dequantize from '@filigree/wgsl/quantization/dequantize-rows.wgsl';
import words from '@filigree/wgsl/quantization/words.wgsl';
import { activationGroup } from '../activations.js';
import { takesFloats, weightLayoutById } from '../gguf/types.js';
import { weightDecoder, weightPieces } from './webgpu-decoders.js';

export const dequantizeRowsKernel: WebGpuKernel = {
  shader: (_, __, { type }) =>
    composedShader(`quantization/dequantize-rows ${Number(type)}`, () => {
      const { name } = weightLayoutById(Number(type));
      const decoder = [weightDecoder(name), takesFloats(name) ? dequantizeFloats : dequantizeGroups];
      return [words, dequantize.replace('/* decoder */', decoder.join('\n'))].join('\n');
    }),
  plan({ blocks: table, ids, y }, { type }, limits) {
    if (!table || !ids || !y) return [];
    const [rows, rowBytes] = table.shape;
    const unit = takesFloats(weightLayoutById(Number(type)).name) ? 1 : activationGroup;
    const unitsPerRow = y.shape[1] / unit;
    const items = cut(ids.shape[0], { ids: 4, y: 4 * y.shape[1] }, limits);
    return weightPieces('blocks', rows, rowBytes, limits).flatMap((weights) =>
      items.map((item) => ({
        workgroups: groupsFor(item.count * unitsPerRow),
        uniforms: [
          ...[item.count * unitsPerRow, unitsPerRow, rowBytes, Number(type), unit],
          ...[weights.start, weights.count, rows],
        ].map(uniform.u32),
        ranges: { ...weights.ranges, ...item.ranges },
      })),
    );
  },
};
