export * from './activations.js';
export { packedBlocks, seededBlocks } from './cases.js';
export * from './gguf/decode-row.js';
export * from './gguf/types.js';
export * from './ops/dequantize-rows.js';
export * from './ops/matmul.js';
export * from './ops/repack.js';
export * from './packed-layout.js';
export * from './quantized-linear.js';
