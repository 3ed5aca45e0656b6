import { cut, groupsFor, uniform, type Piece, type WebGpuKernel, type WebGpuLimits } from '@filigree/core-tensor';
import blocks from '@filigree/wgsl/quantization/blocks.wgsl';
import dequantize from '@filigree/wgsl/quantization/dequantize-rows.wgsl';
import matmul from '@filigree/wgsl/quantization/matmul.wgsl';
import { ggufLayoutById } from '../gguf/types.js';

/** Weight rows a workgroup of the matmul covers; each invocation computes one output for up to `tokensPerInvocation` tokens. */
const rowsPerGroup = 64;
const tokensPerInvocation = 4;

/** Pieces of the rows of `name` that fit into a binding; rows of any number of bytes, so four of them are whole words. */
function weightPieces(name: string, rows: number, rowBytes: number, limits: WebGpuLimits): Piece[] {
  return cut(rows, { [name]: rowBytes }, limits, 4);
}

export const dequantizeRowsKernel: WebGpuKernel = {
  shader: () => `${blocks}\n${dequantize}`,
  plan({ blocks: table, ids, y }, { type }, limits) {
    if (!table || !ids || !y) return [];
    const { elements } = ggufLayoutById(Number(type));
    const [rows, rowBytes] = table.shape;
    const blocksPerRow = y.shape[1] / elements;
    const items = cut(ids.shape[0], { ids: 4, y: 4 * y.shape[1] }, limits);
    return weightPieces('blocks', rows, rowBytes, limits).flatMap((weights) =>
      items.map((item) => ({
        workgroups: groupsFor(item.count * blocksPerRow),
        uniforms: [
          ...[item.count * blocksPerRow, blocksPerRow, rowBytes, Number(type), elements],
          ...[weights.start, weights.count, rows],
        ].map(uniform.u32),
        ranges: { ...weights.ranges, ...item.ranges },
      })),
    );
  },
};

export const matmulKernel: WebGpuKernel = {
  shader(_, { bias, residual }) {
    const bound = 2 + (bias ? 1 : 0) + (residual ? 1 : 0);
    const optional = [
      bias ? '@group(0) @binding(2) var<storage, read> bias: array<f32>;' : '',
      residual ? `@group(0) @binding(${bias ? 3 : 2}) var<storage, read> residual: array<f32>;` : '',
    ].join('\n');
    return `${blocks}\n${matmul}`
      .replace('OPTIONAL_BINDINGS', optional)
      .replaceAll('Y_BINDING', String(bound))
      .replaceAll('P_BINDING', String(bound + 1))
      .replace('BIAS_VALUE', bias ? 'bias[p.offsets[2] + row]' : '0.0')
      .replace('RESIDUAL_VALUE', residual ? `residual[p.offsets[${bias ? 3 : 2}] + token * p.out_features + row]` : '0.0')
      .replaceAll('Y_OFFSET', bound < 4 ? `p.offsets[${bound}]` : 'p.offsets_high[0]')
      .replace('OFFSETS_HIGH', bound < 4 ? '' : 'offsets_high: vec4u,');
  },
  plan({ x, weights, residual }, { type, outFeatures, inFeatures, activations }, limits) {
    if (!x || !weights || x.shape[0] === 0 || outFeatures === 0) return [];
    const [rows, rowBytes] = weights.shape;
    const { elements } = ggufLayoutById(Number(type));
    const yBytes = 4 * Number(outFeatures);
    const perToken = { x: 4 * x.shape[1], y: yBytes, ...(residual ? { residual: yBytes } : {}) };
    const tokens = cut(x.shape[0], perToken, limits);
    return weightPieces('weights', rows, rowBytes, limits).flatMap((piece) =>
      tokens.map((some) => ({
        workgroups: [Math.ceil(piece.count / rowsPerGroup) * Math.ceil(some.count / tokensPerInvocation)] as const,
        uniforms: [
          ...[some.count, Number(outFeatures), Number(inFeatures), Number(type), rowBytes],
          ...[activations === 'q8-32' && elements > 1 ? 1 : 0, piece.start, piece.count],
        ].map(uniform.u32),
        ranges: { ...piece.ranges, ...some.ranges },
      })),
    );
  },
};
