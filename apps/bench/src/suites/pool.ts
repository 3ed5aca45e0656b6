import { cpuName } from '../measure/cpu.js';
import { measureRoofline } from '../measure/roofline.js';
import { poolProgram, type PoolFigure } from '../pool/pool-program.js';
import { poolRecords } from '../pool/pool-records.js';
import type { BenchRecord } from '../record.js';
import type { Suite } from '../suite.js';

/** 1, 2, 4 … and the number asked for. */
export function threadCounts(most: number): number[] {
  const counts: number[] = [];
  for (let count = 1; count < most; count *= 2) counts.push(count);
  return [...counts, most];
}

/** The worker pool below the native backend beside rayon, the general-purpose pool of Rust. */
export const pool: Suite = {
  id: 'pool',
  title: 'our worker pool against rayon: latency of a parallel loop, loops like those of a decode step',
  async run({ threads: most, rounds, progress }) {
    progress('building the program');
    const measure = await poolProgram();
    const records: BenchRecord[] = [];
    for (const threads of threadCounts(most)) {
      const [ours, peer]: [PoolFigure[][], PoolFigure[][]] = [[], []];
      const ceilings = [await measureRoofline(threads)];
      for (let round = 1; round <= rounds; round++) {
        progress(`${threads} threads, round ${round} of ${rounds}`);
        ours.push(await measure('filigree', threads));
        peer.push(await measure('rayon', threads));
        ceilings.push(await measureRoofline(threads));
      }
      records.push(...poolRecords({ threads, ours, peer, ceilings, cpu: cpuName(threads) }));
    }
    return records;
  },
};
