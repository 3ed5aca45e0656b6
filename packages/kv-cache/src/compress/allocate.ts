import { OptionError } from '@filigree/core-tensor';
import type { CompressContext } from './compressor.js';

/** Where the entries that a choice is made of lie among those of the prompt. */
export interface OpenEntries {
  readonly context: CompressContext;
  /** The first of them, and the one behind the last. */
  readonly first: number;
  readonly last: number;
}

/** Which entries heads keep, from their scores [Hk][n]: `entries` of each on average, ascending ids per head. */
export type Allocation = (
  scores: readonly Float32Array[],
  entries: number,
  open: OpenEntries,
) => number[][] | Promise<number[][]>;

/** An allocation that scores are enough for. */
export type ScoreAllocation = (scores: readonly Float32Array[], entries: number) => number[][];

/** Every head the same number, each by its own scores. */
export const perHead: ScoreAllocation = (scores, entries) => scores.map((row) => ascending(largest(row, entries)));

/** One list for all heads of the layer, by the sum of their scores. */
export const shared: ScoreAllocation = (scores, entries) => {
  const ids = ascending(largest(sumOverHeads(scores), entries));
  return scores.map(() => [...ids]);
};

/**
 * One budget for all heads of a layer: each is sure of its `floor(safeguard · entries)` best, what is left goes to the largest scores of any head.
 * Feng et al., "Ada-KV", arXiv:2407.11550.
 *
 * @throws OptionError when safeguard is not within 0 … 1.
 */
export function adaptive(safeguard: number): ScoreAllocation {
  if (!(safeguard >= 0 && safeguard <= 1)) throw new OptionError(`safeguard is ${safeguard}, it must lie within 0 and 1`);
  return (scores, entries) => {
    const sure = Math.floor(safeguard * entries);
    const ordered = scores.map((row) => largest(row, row.length));
    const counts = ordered.map((ids) => Math.min(sure, ids.length));
    const others = Float32Array.from(ordered.flatMap((ids, head) => ids.slice(sure).map((id) => scores[head][id]))).sort();
    let left = Math.min(others.length, scores.length * entries - counts.reduce((sum, count) => sum + count, 0));
    // The least score that is taken; of those that are equal to it heads take in turns what is left.
    const least = left > 0 ? others[others.length - left] : Infinity;
    for (const [head, ids] of ordered.entries())
      while (left > 0 && counts[head] < ids.length && scores[head][ids[counts[head]]] > least) {
        counts[head]++;
        left--;
      }
    for (let before = -1; left > 0 && left !== before;) {
      before = left;
      for (const [head, ids] of ordered.entries())
        if (left > 0 && counts[head] < ids.length && scores[head][ids[counts[head]]] === least) {
          counts[head]++;
          left--;
        }
    }
    return ordered.map((ids, head) => ascending(ids.slice(0, counts[head])));
  };
}

/**
 * Whole chunks of neighbouring entries, the same for all heads of the layer, by the mean over a chunk of what heads score together. Of the chunk that the
 * budget no longer holds whole, the best entries.
 *
 * Liu et al., "ChunkKV", arXiv:2502.00299.
 */
export function chunks(size: number): ScoreAllocation {
  return (scores, entries) => {
    const sums = sumOverHeads(scores);
    const starts = Array.from({ length: Math.ceil(sums.length / size) }, (_, chunk) => chunk * size);
    const means = starts.map((start) => {
      const part = sums.subarray(start, start + size);
      return part.reduce((sum, score) => sum + score, 0) / part.length;
    });
    const kept: number[] = [];
    for (const chunk of largest(means, means.length)) {
      const part = sums.subarray(starts[chunk], starts[chunk] + size);
      kept.push(...largest(part, Math.min(part.length, entries - kept.length)).map((id) => starts[chunk] + id));
    }
    const ids = ascending(kept);
    return scores.map(() => [...ids]);
  };
}

/** Every head the same share of each chunk of `size` neighbouring entries, its best there. Shares are rounded so that they add up to the budget. */
export function sharePerChunk(size: number): ScoreAllocation {
  return (scores, entries) =>
    scores.map((row) => {
      const upTo = (end: number): number => Math.floor((entries * end) / row.length + 1e-9);
      const kept: number[] = [];
      for (let start = 0; start < row.length; start += size) {
        const end = Math.min(row.length, start + size);
        kept.push(...largest(row.subarray(start, end), upTo(end) - upTo(start)).map((id) => start + id));
      }
      return ascending(kept);
    });
}

/** Ids of the `count` largest scores, largest first; ties for the lower id. */
export function largest(row: ArrayLike<number>, count: number): number[] {
  const ids = Array.from(row, (_, index) => index);
  // Not by the difference, which two infinite scores have none of.
  ids.sort((a, b) => (row[a] === row[b] ? a - b : row[a] > row[b] ? -1 : 1));
  return ids.slice(0, Math.max(0, count));
}

export function ascending(ids: readonly number[]): number[] {
  return [...ids].sort((a, b) => a - b);
}

function sumOverHeads(scores: readonly Float32Array[]): Float64Array {
  return Float64Array.from(scores[0], (_, index) => scores.reduce((sum, row) => sum + row[index], 0));
}
