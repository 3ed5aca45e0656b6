import { inChild } from '../children.js';
import { median } from '../measure/median.js';
import type { Roofline } from '../measure/roofline.js';
import { benchRecord, type BenchRecord } from '../record.js';
import type { SuiteOptions } from '../suite.js';
import { decodeBound, prefillBound, type Demands } from './demands.js';
import type { Peer, Speeds, SpeedWork } from './peers.js';

/** Tokens of the prompt, and tokens decoded from an empty context. */
export const promptTokens = 512;
const decodeTokens = 128;

/** Ours and every peer in turn on one file, round after round; medians of each. */
async function interleaved(
  { title, path }: { readonly title: string; readonly path: string },
  { threads, rounds, progress }: SuiteOptions,
  peers: readonly Peer[],
): Promise<{ ours: Speeds; theirs: Map<Peer, Speeds> }> {
  const prompt = await inChild('tokens', { path, threads, prompt: promptTokens });
  const work: SpeedWork = { path, threads, prompt, generate: decodeTokens };
  const ours: Speeds[] = [];
  const theirs = new Map<Peer, Speeds[]>(peers.map((peer) => [peer, []]));
  for (let round = 1; round <= rounds; round++) {
    progress(`${title}: prefill and decode, round ${round} of ${rounds}`);
    ours.push(await inChild('speed', work));
    for (const [peer, speeds] of theirs) speeds.push(await peer.measure(work));
  }
  const middle = (speeds: readonly Speeds[]): Speeds => ({
    prefill: median(speeds.map(({ prefill }) => prefill)),
    decode: median(speeds.map(({ decode }) => decode)),
  });
  return { ours: middle(ours), theirs: new Map([...theirs].map(([peer, speeds]) => [peer, middle(speeds)])) };
}

export interface SpeedBench {
  readonly suite: string;
  readonly title: string;
  readonly path: string;
  readonly cpu: string;
  readonly demands: Demands;
  readonly roofline: Roofline;
  /** The ratios asked for beside a peer. */
  goals(peer: string): Partial<Speeds>;
}

/** Decoding and prefill of one file beside every peer. */
export async function speedRecords(bench: SpeedBench, options: SuiteOptions, peers: readonly Peer[]): Promise<BenchRecord[]> {
  const { suite, title, cpu, demands, roofline } = bench;
  const { ours, theirs } = await interleaved(bench, options, peers);
  const phases = [
    { phase: 'decode', tokens: decodeTokens, bound: decodeBound(demands, roofline) },
    { phase: 'prefill', tokens: promptTokens, bound: prefillBound(demands, roofline, promptTokens) },
  ] as const;
  return [...theirs].flatMap(([{ name }, speeds]) =>
    phases.map(({ phase, tokens, bound }) =>
      benchRecord({
        suite,
        work: `${title}: ${phase} ${tokens} tokens`,
        ours: ours[phase],
        unit: 'tokens/s',
        peer: { name, value: speeds[phase] },
        goal: bench.goals(name)[phase],
        bound,
        cpu,
      }),
    ),
  );
}
