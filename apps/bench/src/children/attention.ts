import { cast, type Backend } from '@filigree/core-tensor';
import { attention, lowerMask, plannedAttention, planTensor, streaming } from '@filigree/sparse-attention';
import { randomTensor, timeCalls, type KernelTime } from './kernel-time.js';

/** Grouped-query attention in the shape of SmolLM2's layers. */
export async function timeAttention(backend: Backend, rounds: number, dtype: 'f32' | 'f16'): Promise<KernelTime[]> {
  const [heads, kvHeads, dim] = [9, 3, 64];
  const times: KernelTime[] = [];
  for (const [lengthQ, lengthK] of [
    [1, 2048],
    [512, 512],
    [512, 3072],
  ]) {
    const q = randomTensor(backend, [1, heads, lengthQ, dim], 1);
    const caches = Array.from({ length: lengthQ === 1 ? 60 : 1 }, (_, index) => {
      const [k, v] = [2, 3].map((seed) => {
        const full = randomTensor(backend, [1, kvHeads, lengthK, dim], seed + index * 2);
        const converted = cast(full, dtype);
        full.dispose();
        return converted;
      });
      return { k, v };
    });
    const visible = lengthQ * (lengthK - lengthQ) + (lengthQ * (lengthQ + 1)) / 2;
    const shape = `${heads}/${kvHeads} heads, ${lengthQ} × ${lengthK}, ${dtype} cache`;
    const bytes = 2 * kvHeads * lengthK * dim * (dtype === 'f32' ? 4 : 2);
    const bound = lengthQ === 1 ? 'read' : 'f32';
    const dense = await timeCalls(backend, rounds, caches.length, (call) => attention(q, caches[call].k, caches[call].v));
    const group = `attention, ${lengthQ === 1 ? '1 query' : `${lengthQ} queries`}`;
    times.push({ group, work: `attention ${shape}`, milliseconds: dense, bytes, operations: 4 * heads * dim * visible, bound });

    const mask = streaming({ sinks: 4, window: 512 })({ batch: 1, heads, lenQ: [lengthQ], lenK: [lengthK] });
    const lowered = lowerMask(mask);
    const plan = planTensor(backend, lowered);
    const planned = await timeCalls(backend, rounds, caches.length, (call) =>
      plannedAttention(q, caches[call].k, caches[call].v, plan),
    );
    times.push({
      group,
      work: `planned attention, sinks + window 512, ${shape}`,
      milliseconds: planned,
      bytes: bytes * lowered.stats.density,
      operations: 4 * dim * lowered.stats.cells,
      bound,
    });
    for (const tensor of [q, plan, ...caches.flatMap(({ k, v }) => [k, v])]) tensor.dispose();
  }
  return times;
}
