import { medianRoofline } from '../measure/roofline.js';
import { benchRecord, type BenchRecord } from '../record.js';
import type { SuiteOptions } from '../suite.js';
import { decodeBound, prefillBound, type Demands } from './demands.js';
import { measureSpeeds, ours, speedFile } from './measure-speeds.js';
import type { Peer } from './peers.js';
import { testName, type SpeedTest } from './speed-test.js';

export interface SpeedBench {
  readonly suite: string;
  readonly title: string;
  readonly path: string;
  readonly cpu: string;
  readonly demands: Demands;
  readonly tests: readonly SpeedTest[];
  /** The ratio asked for beside a peer. */
  goal(peer: string, test: SpeedTest): number | undefined;
}

/** Ours beside every peer on the tests of one file. */
export async function speedRecords(bench: SpeedBench, options: SuiteOptions, peers: readonly Peer[]): Promise<BenchRecord[]> {
  const { suite, title, path, cpu, demands, tests } = bench;
  const file = await speedFile(title, path, options.threads, tests);
  const records: BenchRecord[] = [];
  for (const test of tests) {
    const { values, medians, ceilings } = await measureSpeeds(file, test, [ours(), ...peers], options);
    const bound = test.phase === 'decode' ? decodeBound : prefillBound;
    const shared = {
      suite,
      group: test.phase,
      work: `${title}: ${testName(test)}`,
      ours: medians[0],
      unit: 'tokens/s',
      bound: bound(demands, test, medianRoofline(ceilings)),
      ceilings,
      cpu,
    } as const;
    for (const [index, { name }] of peers.entries()) {
      records.push(
        benchRecord({
          ...shared,
          peer: { name, value: medians[index + 1] },
          rounds: { ours: values[0], peer: values[index + 1] },
          goal: bench.goal(name, test),
        }),
      );
    }
  }
  return records;
}
