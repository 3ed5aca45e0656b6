import { isVisible, type BlockMask, type Pattern } from '@filigree/sparse-attention';

/** Keys that every query of one prompt sees through a pattern, per head. */
export function patternKeys(pattern: Pattern, length: number, heads = 1): number[][][] {
  return keysOf(pattern({ batch: 1, heads, lenQ: [length], lenK: [length] }));
}

/** Keys that every query of the first element sees, per head. */
export function keysOf(mask: BlockMask): number[][][] {
  return Array.from(mask.headMap, (_, head) =>
    Array.from({ length: mask.lenQ[0] }, (__, query) => {
      const keys = Array.from({ length: mask.lenK[0] }, (___, key) => key);
      return keys.filter((key) => isVisible(mask, 0, head, query, key));
    }),
  );
}

/** start … end − 1. */
export function span(start: number, end: number): number[] {
  return Array.from({ length: Math.max(0, end - start) }, (_, index) => start + index);
}

/** Whether every query has every earlier token within so many layers of the same masks, one list per query each. */
export function reachesAll(layers: readonly (readonly (readonly number[])[])[]): boolean {
  const reached = layers.reduce<readonly ReadonlySet<number>[]>(
    (before, keys) => keys.map((own) => new Set(own.flatMap((key) => [...(before.length === 0 ? [key] : before[key])]))),
    [],
  );
  return reached.every((tokens, query) => tokens.size === query + 1);
}
