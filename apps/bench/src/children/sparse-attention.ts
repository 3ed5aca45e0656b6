import { createNativeBackend } from '@filigree/backend-native';
import { cast, scope, type Backend, type Tensor } from '@filigree/core-tensor';
import { attention, plannedAttention, planTensor } from '@filigree/sparse-attention';
import { keyPlan, type KeyKind, type KeyPlanShape } from './key-plans.js';
import { randomTensor } from './kernel-time.js';

export interface AttentionWork {
  readonly threads: number;
  readonly rounds: number;
  readonly length: number;
  readonly dtype: 'f32' | 'f16';
  readonly kinds: readonly KeyKind[];
  readonly densities: readonly number[];
  /** Distinct masks of a plan. */
  readonly masks: 'shared' | 'per head';
}

/** Milliseconds of dense attention and of a plan, round by round; the same queries, keys and values. */
export interface AttentionTime {
  readonly kind: KeyKind;
  readonly density: number;
  readonly dense: readonly number[];
  readonly planned: readonly number[];
}

/** Head counts and dimension of SmolLM2's layers. */
export const layerShape = { heads: 9, kvHeads: 3, dim: 64 } as const;

/** Times plans beside dense attention, in turn, round after round. */
export async function measureAttention(work: AttentionWork): Promise<AttentionTime[]> {
  const backend = createNativeBackend({ threads: work.threads, fallback: 'error' });
  const { heads, kvHeads, dim } = layerShape;
  const cache = (seed: number): Tensor =>
    scope(() => cast(randomTensor(backend, [1, kvHeads, work.length, dim], seed), work.dtype));
  const q = randomTensor(backend, [1, heads, work.length, dim], 1);
  const [k, v] = [cache(2), cache(3)];
  const once = (run: () => unknown): Promise<number> => elapsed(backend, run);
  const dense = (): Promise<number> => once(() => attention(q, k, v));
  await dense();
  const times: AttentionTime[] = [];
  for (const kind of work.kinds) {
    for (const wanted of work.densities) {
      const shape: KeyPlanShape = {
        ...{ kind, density: wanted, length: work.length, heads },
        maskHeads: work.masks === 'shared' ? kvHeads : heads,
      };
      const lowered = keyPlan(shape);
      const plan = planTensor(backend, lowered);
      const time = { kind, density: lowered.stats.density, dense: [] as number[], planned: [] as number[] };
      for (let round = 0; round < work.rounds; round++) {
        time.dense.push(await dense());
        time.planned.push(await once(() => plannedAttention(q, k, v, plan)));
      }
      times.push(time);
      plan.dispose();
    }
  }
  backend.dispose();
  return times;
}

/** Milliseconds until everything that `run` queued is done. */
export async function elapsed(backend: Backend, run: () => unknown): Promise<number> {
  const started = performance.now();
  scope(() => {
    run();
  });
  await backend.sync();
  return performance.now() - started;
}
