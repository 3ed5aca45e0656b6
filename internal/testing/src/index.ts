export * from './backends.js';
export * from './browser.js';
export * from './bundle.js';
export * from './compare.js';
export * from './conformance.js';
export * from './software-gpu.js';
export * from './tier.js';
export * from './tiny-model.js';
