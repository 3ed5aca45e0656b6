import { groupsFor, uniform, type TensorMeta, type WebGpuKernel } from '@filigree/core-tensor';
import shader from '@filigree/wgsl/sparse-attention/lower-selection.wgsl';
import { layoutOf } from './lowered-layout.js';
import { selectionShader } from './shader.js';

/** Heads, groups and words of a source of bits. */
function sizesOf(source: TensorMeta | undefined): number[] {
  return source ? [source.shape[1], source.shape[2], source.shape[3], 0] : [1, 1, 0, 0];
}

/** One workgroup writes the header, one invocation each row block. */
export const lowerSelectionKernel: WebGpuKernel = {
  shader: (_, io) =>
    selectionShader(
      {
        op: 'sparse-attention/lower-selection',
        source: shader,
        inputs: [
          ['blocks', 'u32'],
          ['moreBlocks', 'u32'],
          ['columns', 'u32'],
          ['slashes', 'u32'],
          ['ranges', 'i32'],
          ['lengths', 'i32'],
          ['kvMap', 'i32'],
        ],
        outputs: [
          ['plan', 'i32'],
          ['cells', 'f32'],
        ],
      },
      io,
    ),
  plan(io, attributes) {
    const number = (name: string): number => Number(attributes[name]);
    const [lengthQ, heads, blockQ, blockK] = ['lengthQ', 'heads', 'blockQ', 'blockK'].map(number);
    const [capacity, slashStep, maxSlashes, maxColumns] = ['capacity', 'slashStep', 'maxSlashes', 'maxColumns'].map(number);
    const sizes = { lengthQ, heads, blockQ, blockK, capacity, slashStep, maxSlashes, maxColumns };
    const layout = layoutOf(io, sizes);
    const { ranges } = io;
    const uniforms = [
      ...[layout.words, layout.batch, layout.maskHeads, heads, layout.rows, lengthQ, blockQ, blockK, capacity, slashStep],
      ...[maxSlashes < 0 ? capacity : maxSlashes, number('excluded'), number('window'), layout.maxRanges, layout.maxColumns, 0],
      ...[io['blocks'], io['moreBlocks'], io['columns'], io['slashes']].flatMap(sizesOf),
      ...[ranges?.shape[0] ?? 1, ranges?.shape[1] ?? 0],
    ].map(uniform.u32);
    const rows = layout.batch * layout.maskHeads * layout.rows;
    return [
      { entryPoint: 'head', workgroups: [1], uniforms },
      ...(rows > 0 ? [{ entryPoint: 'rows', workgroups: groupsFor(rows), uniforms }] : []),
    ];
  },
};
