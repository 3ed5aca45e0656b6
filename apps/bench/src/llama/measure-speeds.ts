import { inChild } from '../children.js';
import type { Attention } from '../children/model.js';
import { interleaved, type Interleaved } from '../measure/interleaved.js';
import { measureRoofline } from '../measure/roofline.js';
import type { SuiteOptions } from '../suite.js';
import type { Peer } from './peers.js';
import { testName, textTokens, type SpeedTest } from './speed-test.js';

/** Ours, dense or through that attention, measured as a peer is. */
export function ours(attention?: Attention): Peer {
  return { name: attention ? 'ours, sinks + window' : 'ours', measure: (work) => inChild('speed', { ...work, attention }) };
}

export interface SpeedFile {
  readonly title: string;
  readonly path: string;
  /** Token ids of real text. */
  readonly text: readonly number[];
}

/** The file with as much text as those tests read. */
export async function speedFile(title: string, path: string, threads: number, tests: readonly SpeedTest[]): Promise<SpeedFile> {
  return { title, path, text: await inChild('tokens', { path, threads, prompt: Math.max(...tests.map(textTokens)) }) };
}

/** Tokens per second of every contender on one test: in turn, each time in a fresh process, round after round. */
export function measureSpeeds(
  { title, path, text }: SpeedFile,
  test: SpeedTest,
  contenders: readonly Peer[],
  { threads, rounds, progress }: SuiteOptions,
): Promise<Interleaved> {
  const work = { path, threads, text: text.slice(0, textTokens(test)), test };
  return interleaved(
    contenders.map((contender) => () => contender.measure(work)),
    {
      rounds,
      probe: () => measureRoofline(threads),
      onRound: (round) => progress(`${title}: ${testName(test)}, round ${round} of ${rounds}`),
    },
  );
}
