export * from './codec.js';
export * from './errors.js';
export * from './kv-cache.js';
export * from './ops/append.js';
export * from './page-pool.js';
