import { createNativeBackend } from '@filigree/backend-native';
import { kernelTypes } from '@filigree/quantization';
import { timeAttention } from './attention.js';
import type { KernelTime } from './kernel-time.js';
import { timeMatmul } from './matmul.js';

/** Times the kernels that a decoder spends its time in. */
export async function measureKernels({ threads, rounds }: { threads: number; rounds: number }): Promise<KernelTime[]> {
  const backend = createNativeBackend({ threads, fallback: 'error' });
  const times: KernelTime[] = [];
  for (const type of kernelTypes) times.push(...(await timeMatmul(backend, rounds, type, 'q8-32')));
  for (const type of ['Q4_1', 'Q4_K']) times.push(...(await timeMatmul(backend, rounds, type, 'none')));
  for (const dtype of ['f32', 'f16'] as const) times.push(...(await timeAttention(backend, rounds, dtype)));
  backend.dispose();
  return times;
}
