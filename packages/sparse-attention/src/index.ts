export * from './attend-by-policy.js';
export * from './catalogue.js';
export * from './cell-pattern.js';
export * from './combine-plans.js';
export * from './head-plan.js';
export { readPlanFile, type PlanFile, type PlannedModel } from './plan-file.js';
export type * from './kv-view.js';
export * from './check-plan.js';
export * from './lower-mask.js';
export * from './mask.js';
export * from './mask-to-dense.js';
export * from './method.js';
export * from './methods/anchor-attention.js';
export * from './methods/big-bird.js';
export * from './methods/block-top-k.js';
export * from './methods/dilated.js';
export * from './methods/double-sparsity.js';
export * from './methods/dual-chunk.js';
export * from './methods/dual-chunk-sparse.js';
export * from './methods/fixed-sparse.js';
export * from './methods/flex-prefill.js';
export * from './methods/hip.js';
export * from './methods/inf-llm.js';
export * from './methods/longformer.js';
export * from './methods/lserve.js';
export * from './methods/minference.js';
export * from './methods/moa-window.js';
export * from './methods/nm-softmax.js';
export * from './methods/quest.js';
export * from './methods/retrieval-attention.js';
export * from './methods/sale.js';
export * from './methods/skip-softmax.js';
export * from './methods/sliding-window.js';
export * from './methods/sparge.js';
export * from './methods/streaming.js';
export * from './methods/strided-sparse.js';
export * from './methods/tidal-decode.js';
export * from './methods/token-select.js';
export * from './methods/triangle-mix.js';
export * from './methods/x-attention.js';
export * from './ops/attention.js';
export * from './ops/attention-stats.js';
export { precisions, queryLayouts, type Precision, type QueryLayout } from './ops/check.js';
export * from './ops/gather-attention.js';
export type { ExecutorCall } from './ops/executor-call.js';
export * from './ops/merge.js';
export * from './ops/planned-attention.js';
export { queryPieces, type QueryPiece } from './ops/webgpu-attend.js';
export { bindings, type Io } from './ops/webgpu-bindings.js';
export * from './pack-plan.js';
export * from './plan.js';
export * from './plan-cache.js';
export * from './range-pattern.js';
export * from './transpose-plan.js';
export * from './residue-split.js';
export * from './reuse/dense-layers.js';
export * from './reuse/reuse-layers.js';
export * from './reuse/reuse-steps.js';
export * from './reuse/reuse-while-similar.js';
export * from './reuse/selection-memory.js';
export * from './retrieval/flat-index.js';
export * from './retrieval/graph-index.js';
export * from './retrieval/ivf-index.js';
export * from './retrieval/key-index.js';
export * from './select/antidiagonal-scores.js';
export * from './select/append-labels.js';
export * from './select/bound-scores.js';
export * from './select/chunk-descent.js';
export type { PageBounds } from './select/key-bounds.js';
export * from './select/label-scores.js';
export * from './select/page-bounds.js';
export * from './select/quant-dot.js';
export * from './select/row-stats.js';
export type * from './selector.js';
export { blockScores, blockScoresOp, type BlockScoresOptions } from './select/block-scores.js';
export { lowerSelection, lowerSelectionOp, type LowerSelectionOptions, type SelectionBits } from './select/lower-selection.js';
export {
  poolBlocks,
  poolBlocksOp,
  poolLayouts,
  poolModes,
  type PoolBlocksOptions,
  type PoolLayout,
  type PoolMode,
} from './select/pool-blocks.js';
export { probeSums, probeSumsOp, type ProbeSumsOptions } from './select/probe-sums.js';
export { readBits } from './select/read-bits.js';
export { groupReduces, type GroupReduce } from './select/shared-scores.js';
export { selectRow, selectRowOp, selectScopes, type SelectRowOptions, type SelectScope } from './select/select-row.js';
export { selectionIndices, selectionIndicesOp, type SelectionIndicesOptions } from './select/selection-indices.js';
export { planRow, predicatesHold, tileKeys, visibleKeys, type PlannedKeys } from './visible-keys.js';
export * from './calibrate/calibrate.js';
export * from './calibrate/calibrate-channels.js';
export type * from './calibrate/calibrated-model.js';
export * from './calibrate/calibrations.js';
export * from './calibrate/searches.js';
export * from './calibrate/skip-softmax.js';
export {
  runCalibration,
  type CalibrationOptions,
  type CalibrationProgress,
  type CalibrationStore,
  type Calibrator,
  type Json,
} from './calibrate/run-calibration.js';
export type { LayerSample } from './calibrate/capture.js';
