import { createNativeBackend } from '@filigree/backend-native';
import { kernelTypes } from '@filigree/quantization';
import { timeAttention } from './attention.js';
import type { KernelTime } from './kernel-time.js';
import { timeMatmul } from './matmul.js';

export interface KernelsWork {
  readonly threads: number;
  readonly rounds: number;
  /** Types of weights, or of caches; all of them when empty. */
  readonly types: readonly string[];
}

/** Times the kernels that a decoder spends its time in. */
export async function measureKernels({ threads, rounds, types }: KernelsWork): Promise<KernelTime[]> {
  const backend = createNativeBackend({ threads, fallback: 'error' });
  const chosen = (type: string): boolean => types.length === 0 || types.includes(type);
  const times: KernelTime[] = [];
  for (const type of kernelTypes.filter(chosen)) times.push(...(await timeMatmul(backend, rounds, type, 'q8-32')));
  for (const type of ['Q4_1', 'Q4_K'].filter(chosen)) times.push(...(await timeMatmul(backend, rounds, type, 'none')));
  for (const type of ['F32', 'F16'].filter(chosen))
    times.push(...(await timeAttention(backend, rounds, type === 'F32' ? 'f32' : 'f16')));
  backend.dispose();
  return times;
}
