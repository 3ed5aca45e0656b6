import { median } from '../measure/median.js';
import { medianRoofline, type Roofline } from '../measure/roofline.js';
import { benchRecord, type BenchRecord } from '../record.js';
import type { PoolFigure } from './pool-program.js';

/** What the rounds of one number of threads gave; every round has the same works in the same order. */
export interface PoolRounds {
  readonly threads: number;
  readonly ours: readonly (readonly PoolFigure[])[];
  readonly peer: readonly (readonly PoolFigure[])[];
  readonly ceilings: readonly Roofline[];
  readonly cpu: string;
}

/** A record of every work: our pool beside rayon's, the medians of the rounds; decoding also beside what memory allows. */
export function poolRecords({ threads, ours, peer, ceilings, cpu }: PoolRounds): BenchRecord[] {
  const { readGBps } = medianRoofline(ceilings);
  return (ours.at(0) ?? []).map(({ work, unit, bytes }, index) => {
    const values = (rounds: PoolRounds['ours']): number[] => rounds.map((figures) => figures[index].value);
    const rounds = { ours: values(ours), peer: values(peer) };
    return benchRecord({
      suite: 'pool',
      group: `${threads} ${threads === 1 ? 'thread' : 'threads'}`,
      work: `${work}, ${threads} ${threads === 1 ? 'thread' : 'threads'}`,
      ours: median(rounds.ours),
      unit,
      peer: { name: 'rayon', value: median(rounds.peer) },
      rounds,
      bound: bytes > 0 ? (1e9 * readGBps) / bytes : undefined,
      ceilings,
      cpu,
    });
  });
}
