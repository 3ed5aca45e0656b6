import { median } from './median.js';

export interface InterleavedOptions {
  readonly rounds: number;
  /** The read bandwidth in GB/s now. */
  readonly probe: () => Promise<number>;
  readonly onRound?: (round: number) => void;
}

export interface Interleaved {
  /** Of each contender, in their order. */
  readonly medians: number[];
  /** The read bandwidth in GB/s before, between and after the rounds. */
  readonly readGBps: number[];
}

/**
 * Runs every contender in turn, round after round, so that a change of the machine's speed meets them all, with a probe of the read
 * bandwidth around every round.
 */
export async function interleaved(
  contenders: readonly (() => Promise<number>)[],
  { rounds, probe, onRound }: InterleavedOptions,
): Promise<Interleaved> {
  const values: number[][] = contenders.map(() => []);
  const readGBps = [await probe()];
  for (let round = 1; round <= rounds; round++) {
    onRound?.(round);
    for (const [index, contender] of contenders.entries()) values[index].push(await contender());
    readGBps.push(await probe());
  }
  return { medians: values.map(median), readGBps };
}
