export * from './activations.js';
export { packedBlocks, seededBlocks } from './cases.js';
export * from './fused-linear.js';
export { blockFields, type BlockField, type BlockType, type FieldDtype } from './gguf/block-fields.js';
export * from './gguf/block-formulas.js';
export * from './gguf/decode-row.js';
export * from './gguf/types.js';
export * from './ops/dequantize-rows.js';
export * from './ops/glu.js';
export * from './ops/matmul.js';
export { weightLayouts, type WeightLayout } from './ops/product.js';
export * from './ops/qkv.js';
export * from './ops/quantize.js';
export * from './ops/repack.js';
export * from './packed-layout.js';
export * from './errors.js';
export { decodeGroup, putGroupedCode } from './grouped/blocks.js';
export { groupedLevel } from './grouped/levels.js';
export { groupedTypes, groupSizes, type GroupedKind, type GroupedType, type GroupSize } from './grouped/types.js';
export { encodeRow, quantizedTypes } from './quantize/encode-row.js';
export * from './quantized-linear.js';
export {
  planQuantization,
  type ModelFacts,
  type PlanQuantizationOptions,
  type QuantizeRule,
  type SourceTensor,
  type TensorPlan,
} from './recipes/plan-quantization.js';
export {
  planGguf,
  quantizeGguf,
  type QuantizedTensorReport,
  type QuantizeGgufOptions,
  type QuantizeProgress,
} from './recipes/quantize-gguf.js';
export { recipe, recipes, type Recipe, type TensorPlace } from './recipes/recipes.js';
export { tensorRole, type TensorRole } from './recipes/tensor-role.js';
export { convertAwq } from './checkpoints/awq.js';
export { convertBitsandbytes4 } from './checkpoints/bitsandbytes.js';
export { convertFp8, convertInt8, convertNvfp4, convertPackQuantized } from './checkpoints/compressed-tensors.js';
export {
  checkpointPartNames,
  convertCheckpointWeight,
  isQuantizedLayer,
  type CheckpointQuantization,
} from './checkpoints/convert.js';
export { convertGptq, type GptqOptions } from './checkpoints/gptq.js';
export type { ConvertedWeight } from './checkpoints/grouped-rows.js';
export type { CheckpointPart, CheckpointParts } from './checkpoints/parts.js';
