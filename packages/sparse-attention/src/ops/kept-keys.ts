import { OptionError } from '@filigree/core-tensor';
import type { Precision } from './check.js';
import type { VisibleKeys } from './reference.js';

/** Attributes that say what scores are and which of them count. */
export interface ScoreOptions {
  readonly scale: number;
  readonly softcap: number;
  readonly precision: Precision;
  /** τ > 0: a query leaves out tiles whose scores are all at least τ below the largest one before; 0: none. */
  readonly pvSkip: number;
  /** The scoreN largest of every scoreM scores are kept; scoreM 0: all. */
  readonly scoreN: number;
  readonly scoreM: number;
  /** The first keys of the cache and the newest keys before a query, which do not compete. */
  readonly scoreSinks: number;
  readonly scoreRecent: number;
}

/**
 * @throws OptionError when pvSkip is negative, scoreM is none of 0, 4 and 8, scoreN not within 1 … scoreM, or a span not a non-negative integer.
 */
export function checkScoreOptions(op: string, options: Omit<ScoreOptions, 'scale' | 'softcap' | 'precision'>): void {
  const { pvSkip, scoreN, scoreM, scoreSinks, scoreRecent } = options;
  if (!(pvSkip >= 0)) throw new OptionError(`${op}: pvSkip is ${pvSkip}, it must be 0 or more`);
  if (![0, 4, 8].includes(scoreM)) throw new OptionError(`${op}: scoreM is ${scoreM}, it must be 4 or 8, or 0 for none`);
  if (scoreM > 0 && !(Number.isInteger(scoreN) && scoreN >= 1 && scoreN <= scoreM))
    throw new OptionError(`${op}: scoreN is ${scoreN}, it must be an integer from 1 to scoreM, which is ${scoreM}`);
  for (const [name, value] of Object.entries({ scoreSinks, scoreRecent })) {
    if (!Number.isInteger(value) || value < 0)
      throw new OptionError(`${op}: ${name} is ${value}, it must be a non-negative integer`);
  }
}

/**
 * N:M softmax: indices of the keys that stay. Keys outside of the sinks and the recent ones compete in groups floor(j / scoreM); one is hidden when
 * scoreN others of its group have a greater score, or the same and a lower j.
 */
export function keptByScores(
  scores: readonly number[],
  { keys, position }: VisibleKeys,
  { scoreN, scoreM, scoreSinks, scoreRecent }: ScoreOptions,
): number[] {
  const all = [...keys.keys()];
  if (scoreM === 0) return all;
  const competes = (index: number): boolean => keys[index] >= scoreSinks && position - keys[index] >= scoreRecent;
  const groupOf = (index: number): number => Math.floor(keys[index] / scoreM);
  return all.filter((index) => {
    if (!competes(index)) return true;
    // Keys ascend, so that those of a group are neighbours.
    const near = all.slice(Math.max(0, index - scoreM), index + scoreM);
    const better = near.filter(
      (other) =>
        groupOf(other) === groupOf(index) &&
        competes(other) &&
        (scores[other] > scores[index] || (scores[other] === scores[index] && other < index)),
    );
    return better.length < scoreN;
  });
}

/** Of the keys at `indices`, those of tiles that the query does not leave out. */
export function keptOfTiles(
  scores: readonly number[],
  { tiles }: VisibleKeys,
  indices: readonly number[],
  pvSkip: number,
): readonly number[] {
  if (pvSkip === 0) return indices;
  const kept: number[] = [];
  let running = -1e30;
  for (let from = 0; from < indices.length;) {
    const tile = indices.slice(from).filter((index) => tiles[index] === tiles[indices[from]]);
    from += tile.length;
    const largest = tile.reduce((most, index) => (scores[index] > most ? scores[index] : most), -1e30);
    if (running <= -1e30 || largest > running - pvSkip) kept.push(...tile);
    running = Math.max(running, largest);
  }
  return kept;
}
