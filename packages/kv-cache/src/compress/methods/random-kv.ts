import { fromArray, Random } from '@filigree/core-tensor';
import { checkIntegers } from '@filigree/sparse-attention';
import { uniform } from '../budgets.js';
import { compressor, type ScoredCompressor } from '../compressor.js';
import { defineKvMethod } from '../kv-method.js';

export interface RandomKvOptions {
  readonly budget: number;
  readonly sinks: number;
  readonly recent: number;
  readonly seed: number;
}

/**
 * The floor that every other method must be above: entries at random, the same for a seed. Both ends are kept, as other methods do.
 * @throws OptionError when an option is out of its range.
 */
export function randomKv({ budget, sinks, recent, seed }: RandomKvOptions): ScoredCompressor {
  checkIntegers('random', { sinks, recent, seed });
  return compressor({
    id: 'random',
    queries: 0,
    queryAgnostic: true,
    decodes: true,
    score: ({ backend, kvHeads, length, layer }) => {
      const rng = new Random(seed, layer);
      return fromArray(
        backend,
        Float32Array.from({ length: kvHeads * length }, () => rng.nextFloat()),
        [kvHeads, length],
      );
    },
    budget: uniform('random', budget),
    protect: { sinks, recent },
  });
}

/** {@link randomKv} in the catalogue. */
export const randomKvMethod = /* @__PURE__ */ defineKvMethod({
  id: 'random',
  title: 'Random entries (control)',
  paper: '',
  phase: 'prefill',
  training: 'none',
  queryAgnostic: true,
  ragged: false,
  options: { budget: 2048, sinks: 4, recent: 32, seed: 1 },
  compressor: randomKv,
});
