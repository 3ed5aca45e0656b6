/** What each package may import of the others; everything not listed is an error. Apps and tests may import every package. */
const capabilities = ['sparse-attention', 'kv-cache', 'moe-routing', 'nm-sparsity', 'quantization', 'sae'];

export const arrows = {
  'core-tensor': [],
  'backend-native': ['core-tensor'],
  'backend-webgpu': ['core-tensor'],
  checkpoint: ['core-tensor'],
  training: ['core-tensor', 'checkpoint'],
  'sparse-attention': ['core-tensor', 'checkpoint'],
  'kv-cache': ['core-tensor', 'checkpoint', 'sparse-attention'],
  'moe-routing': ['core-tensor', 'checkpoint'],
  'nm-sparsity': ['core-tensor', 'checkpoint'],
  quantization: ['core-tensor', 'checkpoint', 'nm-sparsity'],
  sae: ['core-tensor', 'checkpoint', 'training'],
  transformer: ['core-tensor', 'checkpoint', 'training', ...capabilities],
  evaluation: ['core-tensor', 'checkpoint', 'training', ...capabilities, 'transformer'],
};

/** Backends are optional peers of transformer: the files that choose the default one, and only they, import them. */
export const backendChooser = /^default-backend\.(?:node|browser)\.ts$/;
export const backends = ['backend-native', 'backend-webgpu'];

/** Packages that run in Node alone. */
export const nodeOnly = ['backend-native'];
