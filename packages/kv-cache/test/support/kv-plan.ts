import type { KvPlan } from '@filigree/kv-cache';

/** A plan with figures for all methods that take one: those of a head are larger the later it is. */
export function planFor({
  layers = 1,
  heads,
  kvHeads,
}: {
  readonly layers?: number;
  readonly heads: number;
  readonly kvHeads: number;
}): KvPlan {
  const rows = (count: number): number[][] =>
    Array.from({ length: layers }, (_, layer) => Array.from({ length: count }, (_head, head) => (1 + head + layer) / 100));
  return {
    version: 1,
    model: { name: 'test', layers, heads, kvHeads },
    calibration: { method: 'test' },
    figures: { gates: rows(kvHeads), induction: rows(heads), echo: rows(heads), retrieval: rows(heads), error: rows(1) },
  };
}
