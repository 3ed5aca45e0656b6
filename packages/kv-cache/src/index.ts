export * from './codec.js';
export { adaptive, perHead, shared, type Allocation } from './compress/allocate.js';
export * from './compress/budgets.js';
export * from './compress/catalogue.js';
export {
  compressor,
  type Budget,
  type CompressContext,
  type Compressor,
  type CompressorParts,
  type Kept,
  type Score,
} from './compress/compressor.js';
export * from './compress/kv-method.js';
export * from './compress/methods/ada-kv.js';
export * from './compress/methods/pyramid-kv.js';
export * from './compress/methods/random-kv.js';
export * from './compress/methods/snap-kv.js';
export * from './compress/methods/streaming-kv.js';
export * from './compress/probabilities.js';
export type { GroupReduction, Pooling } from './compress/rows.js';
export * from './errors.js';
export * from './kv-cache.js';
export * from './ops/append.js';
export * from './page-pool.js';
export * from './streams/stream-cache.js';
