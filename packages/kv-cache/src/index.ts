export { fileTier } from '#file-tier';
export * from './calibrate/compress-kv.js';
export * from './calibrate/duo-attention.js';
export * from './calibrate/kv-calibrations.js';
export type { KvCalibrationOptions } from './calibrate/plan-of.js';
export * from './calibrate/razor-attention.js';
export {
  recallDefaults,
  recallText,
  type CalibratedKvModel,
  type RecallOptions,
  type RecallText,
} from './calibrate/recall-text.js';
export type { Span } from './calibrate/row-attention.js';
export * from './codec.js';
export {
  adaptive,
  chunks,
  perHead,
  shared,
  type Allocation,
  type OpenEntries,
  type ScoreAllocation,
} from './compress/allocate.js';
export * from './codecs/coded-attention.js';
export * from './codecs/coded-cache.js';
export { type CodedKvCodec, type CodedPagesSize } from './codecs/coded-codec.js';
export * from './codecs/coded-pool.js';
export * from './codecs/int8-kv.js';
export * from './codecs/kivi-kv.js';
export * from './codecs/mustafar-kv.js';
export * from './codecs/turbo-kv.js';
export { codedLayout, kvFormats, kvSides, type CodedLayout, type KvFormat, type KvSide } from './codecs/layout.js';
export * from './compress/budgets.js';
export * from './compress/catalogue.js';
export {
  compressor,
  type Budget,
  type CompressContext,
  type Compressor,
  type CompressorParts,
  type HostScore,
  type Protection,
  type ScoredCompressor,
  type Kept,
  type Score,
} from './compress/compressor.js';
export * from './compress/chunked.js';
export * from './compress/head-classes.js';
export * from './compress/kv-method.js';
export * from './compress/kv-plan.js';
export * from './compress/merging.js';
export * from './compress/methods/ada-kv.js';
export * from './compress/methods/cap-kv.js';
export * from './compress/methods/chunk-kv.js';
export * from './compress/methods/compactor.js';
export * from './compress/methods/compress-kv.js';
export * from './compress/methods/critical-kv.js';
export * from './compress/methods/duo-attention.js';
export * from './compress/methods/expected-attention.js';
export * from './compress/methods/finch.js';
export * from './compress/methods/h2o.js';
export * from './compress/methods/key-diff.js';
export * from './compress/methods/knorm.js';
export * from './compress/methods/kv-zip.js';
export * from './compress/methods/lag-kv.js';
export * from './compress/methods/pyramid-kv.js';
export * from './compress/methods/random-kv.js';
export * from './compress/methods/razor-attention.js';
export * from './compress/methods/snap-kv.js';
export * from './compress/methods/spatten.js';
export * from './compress/methods/streaming-kv.js';
export * from './compress/methods/tova.js';
export * from './compress/methods/un-comp.js';
export * from './compress/probabilities.js';
export type * from './compress/repeat-pass.js';
export * from './compress/rerotate.js';
export type { GroupReduction, Pooling } from './compress/rows.js';
export * from './errors.js';
export * from './kv-cache.js';
export * from './ops/append.js';
export * from './ops/coded-attention.js';
export * from './ops/decode.js';
export * from './ops/encode.js';
export * from './ops/rotate.js';
export * from './page-pool.js';
export * from './policy/bounded-set.js';
export type * from './policy/cache-policy.js';
export * from './policy/policies.js';
export * from './prefix/hash-chain.js';
export type * from './prefix/prefix-index.js';
export * from './prefix/radix-tree.js';
export type { KvFileLayer, KvHeader } from './store/kv-header.js';
export * from './store/crc32c.js';
export * from './store/load-kv.js';
export * from './store/save-kv.js';
export * from './streams/stream-cache.js';
export * from './tier/kv-tier.js';
export * from './tier/prefix-tier.js';
export type { StreamStep } from './streams/step-tensors.js';
export type { EntryMerge, NewEntries, RotateKeys } from './streams/stream-edits.js';
export type { StreamEntries } from './streams/stream.js';
