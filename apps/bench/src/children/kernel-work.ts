import { createNativeBackend } from '@filigree/backend-native';
import { cast, type Backend, type Tensor } from '@filigree/core-tensor';
import { attention } from '@filigree/sparse-attention';
import type { AttentionWork, KernelWork, MatmulWork } from '../kernels/kernel-work.js';
import { randomTensor, timeCalls } from './kernel-time.js';
import { makeLayer } from './matmul.js';

/** Type of weights in matmuls, of caches in attention. */
export type KernelType = 'Q4_0' | 'F32' | 'F16';

interface Options {
  readonly threads: number;
  readonly passes: number;
  readonly layers: number;
  readonly type: KernelType;
}

function timeMatmuls(backend: Backend, { tokens, sizes }: MatmulWork, { passes, layers, type }: Options): Promise<number> {
  const inputs = sizes.map((size, index) => randomTensor(backend, [tokens, size], index));
  const products = Array.from({ length: layers }, (_, layer) =>
    makeLayer(backend, type, 'q8-32', sizes[layer % sizes.length], sizes[(layer + 1) % sizes.length]),
  );
  return timeCalls(backend, passes, layers, (layer) => products[layer].forward(inputs[layer % sizes.length]));
}

function timeAttentions(backend: Backend, work: AttentionWork, { passes, layers, type }: Options): Promise<number> {
  const { heads, kvHeads, headDim, queries, keys } = work;
  const q = randomTensor(backend, [1, heads, queries, headDim], 1);
  const cache = (seed: number): Tensor => {
    const full = randomTensor(backend, [1, kvHeads, keys, headDim], seed);
    const converted = cast(full, type === 'F32' ? 'f32' : 'f16');
    full.dispose();
    return converted;
  };
  const caches = Array.from({ length: layers }, (_, layer) => ({ k: cache(2 * layer), v: cache(2 * layer + 1) }));
  return timeCalls(backend, passes, layers, (layer) => attention(q, caches[layer].k, caches[layer].v));
}

/** Median milliseconds of one layer of ours. */
export async function measureKernelWork({ work, ...options }: Options & { work: KernelWork }): Promise<number> {
  const backend = createNativeBackend({ threads: options.threads, fallback: 'error' });
  try {
    return await (work.kind === 'matmul' ? timeMatmuls(backend, work, options) : timeAttentions(backend, work, options));
  } finally {
    backend.dispose();
  }
}
