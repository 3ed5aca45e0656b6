import { sizeOf, type WebGpuKernel } from '@filigree/core-tensor';
import blocks from '@filigree/wgsl/quantization/blocks.wgsl';
import dequantize from '@filigree/wgsl/quantization/dequantize-rows.wgsl';
import matmul from '@filigree/wgsl/quantization/matmul.wgsl';
import { ggufLayoutById } from '../gguf/types.js';

/** Weight rows a workgroup of the matmul covers; each invocation computes one output for up to `tokensPerInvocation` tokens. */
const rowsPerGroup = 64;
const tokensPerInvocation = 4;

const u32 = (value: number): { readonly type: 'u32'; readonly value: number } => ({ type: 'u32', value });

/** Rows of weights per dispatch so that the bound range stays within the device's limit, in whole words. */
function rowsPerDispatch(rowBytes: number, limit: number): number {
  const most = Math.max(1, Math.floor((limit - 512) / rowBytes));
  return most >= 4 ? Math.floor(most / 4) * 4 : most;
}

export const dequantizeRowsKernel: WebGpuKernel = {
  shader: () => `${blocks}\n${dequantize}`,
  plan({ blocks: table, ids, y }, { type }, limits) {
    if (!table || !ids || !y) return [];
    const { elements } = ggufLayoutById(Number(type));
    const [rows, rowBytes] = table.shape;
    const inFeatures = y.shape[1];
    const step = Math.max(elements, 1);
    const perDispatch = rowsPerDispatch(rowBytes, limits.maxStorageBufferBindingSize);
    const dispatches = [];
    for (let first = 0; first < rows; first += perDispatch) {
      const count = Math.min(perDispatch, rows - first);
      dispatches.push({
        workgroups: [Math.ceil(sizeOf(y.shape) / step / 64)] as const,
        uniforms: [sizeOf(y.shape) / step, inFeatures / step, rowBytes, Number(type), elements, first, count].map(u32),
        ranges: { blocks: { byteOffset: first * rowBytes, byteLength: count * rowBytes } },
      });
    }
    return dispatches;
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
  plan({ x, weights }, { type, outFeatures, inFeatures, activations }, limits) {
    if (!x || !weights || x.shape[0] === 0 || outFeatures === 0) return [];
    const [rows, rowBytes] = weights.shape;
    const { elements } = ggufLayoutById(Number(type));
    const perDispatch = rowsPerDispatch(rowBytes, limits.maxStorageBufferBindingSize);
    const dispatches = [];
    for (let first = 0; first < rows; first += perDispatch) {
      const count = Math.min(perDispatch, rows - first);
      dispatches.push({
        workgroups: [Math.ceil(count / rowsPerGroup) * Math.ceil(x.shape[0] / tokensPerInvocation)] as const,
        uniforms: [
          x.shape[0],
          Number(outFeatures),
          Number(inFeatures),
          Number(type),
          rowBytes,
          activations === 'q8-32' && elements > 1 ? 1 : 0,
          first,
          count,
        ].map(u32),
        ranges: { weights: { byteOffset: first * rowBytes, byteLength: count * rowBytes } },
      });
    }
    return dispatches;
  },
};
