import { median } from './median.js';
import type { Roofline } from './roofline.js';

export interface InterleavedOptions {
  readonly rounds: number;
  /** Measures what the machine can do now. */
  readonly probe: () => Promise<Roofline>;
  readonly onRound?: (round: number) => void;
}

export interface Interleaved {
  /** Every round of each contender, in their order. */
  readonly values: number[][];
  /** Of each contender. */
  readonly medians: number[];
  /** What the machine could do before, between and after the rounds. */
  readonly ceilings: Roofline[];
}

/**
 * Runs every contender in turn, round after round, so that a change of the machine's speed meets them all, with a probe of the machine
 * around every round.
 */
export async function interleaved(
  contenders: readonly (() => Promise<number>)[],
  { rounds, probe, onRound }: InterleavedOptions,
): Promise<Interleaved> {
  const values: number[][] = contenders.map(() => []);
  const ceilings = [await probe()];
  for (let round = 1; round <= rounds; round++) {
    onRound?.(round);
    for (const [index, contender] of contenders.entries()) values[index].push(await contender());
    ceilings.push(await probe());
  }
  return { values, medians: values.map(median), ceilings };
}
