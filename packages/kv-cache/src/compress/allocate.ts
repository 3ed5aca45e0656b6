import { OptionError } from '@filigree/core-tensor';

/** Which entries heads keep, from their scores [Hk][n]: `entries` of each on average, ascending ids per head. */
export type Allocation = (scores: readonly Float32Array[], entries: number) => number[][];

/** Every head the same number, each by its own scores. */
export const perHead: Allocation = (scores, entries) => scores.map((row) => ascending(largest(row, entries)));

/** One list for all heads of the layer, by the sum of their scores. */
export const shared: Allocation = (scores, entries) => {
  const sums = Float32Array.from(scores[0], (_, index) => scores.reduce((sum, row) => sum + row[index], 0));
  const ids = ascending(largest(sums, entries));
  return scores.map(() => [...ids]);
};

/**
 * One budget for all heads of a layer: each is sure of its `floor(safeguard · entries)` best, what is left goes to the largest scores of any head.
 * Feng et al., "Ada-KV", arXiv:2407.11550.
 *
 * @throws OptionError when safeguard is not within 0 … 1.
 */
export function adaptive(safeguard: number): Allocation {
  if (!(safeguard >= 0 && safeguard <= 1)) throw new OptionError(`safeguard is ${safeguard}, it must lie within 0 and 1`);
  return (scores, entries) => {
    const sure = Math.floor(safeguard * entries);
    const ordered = scores.map((row) => largest(row, row.length));
    const kept = ordered.map((ids) => ids.slice(0, sure));
    const others = ordered.flatMap((ids, head) => ids.slice(sure).map((id) => ({ head, id, score: scores[head][id] })));
    // Stable: of equal scores those of the lower head, then of the lower id.
    others.sort((a, b) => b.score - a.score);
    const left = scores.length * entries - kept.reduce((sum, ids) => sum + ids.length, 0);
    for (const { head, id } of others.slice(0, Math.max(0, left))) kept[head].push(id);
    return kept.map(ascending);
  };
}

/** Ids of the `count` largest scores, largest first; ties for the lower id. */
export function largest(row: Float32Array, count: number): number[] {
  const ids = Array.from(row, (_, index) => index);
  ids.sort((a, b) => row[b] - row[a] || a - b);
  return ids.slice(0, Math.max(0, count));
}

function ascending(ids: readonly number[]): number[] {
  return [...ids].sort((a, b) => a - b);
}
