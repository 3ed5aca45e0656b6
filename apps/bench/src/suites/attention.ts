import { inChild } from '../children.js';
import { layerShape, type AttentionTime, type AttentionWork } from '../children/sparse-attention.js';
import { cpuName } from '../measure/cpu.js';
import { median } from '../measure/median.js';
import { measureRoofline, medianRoofline } from '../measure/roofline.js';
import { benchRecord, type BenchRecord } from '../record.js';
import type { Suite, SuiteOptions } from '../suite.js';

/** Dense attention is asked for so much of the arithmetic peak. */
const denseGoal = 0.75;

type Works = Pick<AttentionWork, 'kinds' | 'masks' | 'dtype' | 'densities'>;

const densities = [0.1, 0.2, 0.5];
/** What is timed at a length. */
const works: readonly Works[] = [
  { kinds: ['blocks', 'bands', 'columns', 'mixed'], masks: 'shared', dtype: 'f32', densities },
  { kinds: ['bands', 'columns'], masks: 'per head', dtype: 'f32', densities },
  { kinds: ['blocks', 'columns'], masks: 'shared', dtype: 'f16', densities: [0.2] },
];

/** Most time a plan may take, in shares of density × dense. */
function allowed(kind: AttentionTime['kind'], density: number, masks: Works['masks']): number {
  if (kind === 'columns' || kind === 'mixed') return masks === 'shared' ? 1.25 : 1.4;
  return density < 0.15 ? 1.25 : 1.15;
}

const operations = (length: number): number => 4 * layerShape.heads * layerShape.dim * ((length * (length + 1)) / 2);

async function timed(length: number, work: Works, { threads, rounds, progress }: SuiteOptions): Promise<BenchRecord[]> {
  progress(`attention over ${length} keys: ${work.kinds.join(', ')}, ${work.masks}, ${work.dtype}`);
  const before = await measureRoofline(threads);
  const times = await inChild('attention', { threads, rounds, length, ...work });
  const ceilings = [before, await measureRoofline(threads)];
  const shared = { suite: 'attention', context: length, ceilings, cpu: cpuName(threads) };
  const cache = `${work.dtype} cache`;
  const plans = times.map(({ kind, density, dense, planned }, index) =>
    benchRecord({
      ...shared,
      group: `${length} queries`,
      work: `${kind} ${work.masks}, density ${density.toFixed(2)}, ${length} × ${length}, ${cache}`,
      ours: median(planned),
      unit: 'ms',
      peer: { name: 'density × own dense', value: density * median(dense) },
      rounds: { ours: planned, peer: dense.map((milliseconds) => density * milliseconds) },
      goal: 1 / allowed(kind, work.densities[index % work.densities.length], work.masks),
    }),
  );
  const dense = times.flatMap((time) => time.dense);
  return [
    benchRecord({
      ...shared,
      group: 'dense',
      work: `dense, ${length} × ${length}, ${cache}${work.masks === 'shared' ? '' : ', again'}`,
      ours: operations(length) / median(dense) / 1e6,
      unit: 'GOP/s',
      bound: medianRoofline(ceilings).f32GFLOPs,
      boundGoal: denseGoal,
    }),
    ...plans,
  ];
}

/** Methods whose choice of keys is timed, and the share of dense attention that it may take. */
const selections = [
  { id: 'x-attention', options: { stride: 8 }, share: 0.08 },
  { id: 'flex-prefill', options: {}, share: 0.04 },
  { id: 'minference', options: { vertical: 1000, slash: 1000 }, share: 0.04 },
  { id: 'sparge', options: {}, share: 0.04 },
];

/** How much faster a step of Quest over 1,024 keys is to be than one of dense attention over 16,384. */
const questGoal = 6;
const quests = [
  { id: 'quest', options: { groupReduce: 'sum' } },
  { id: 'quest', options: { groupReduce: 'none' } },
];

async function chosen(length: number, { threads, rounds, progress }: SuiteOptions): Promise<BenchRecord[]> {
  const shared = { suite: 'attention', context: length, unit: 'ms', cpu: cpuName(threads) } as const;
  progress(`choice of keys over ${length} keys`);
  const selected = await inChild('methods', { threads, rounds, length, methods: selections, what: 'select' });
  progress(`decode steps over ${length} keys`);
  const decoded = await inChild('methods', { threads, rounds: 10 * rounds, length, methods: quests, what: 'decode' });
  return [
    ...selected.map(({ id, dense, ours }, index) => {
      const { share } = selections[index];
      return benchRecord({
        ...shared,
        group: 'choice of keys',
        work: `${id} chooses, ${length} × ${length}`,
        ours: median(ours),
        peer: { name: `${share * 100} % of own dense`, value: share * median(dense) },
        rounds: { ours, peer: dense.map((milliseconds) => share * milliseconds) },
        goal: 1,
      });
    }),
    ...decoded.map(({ dense, ours }, index) =>
      benchRecord({
        ...shared,
        group: '1 query',
        work: `quest step, pages ${index === 0 ? 'shared by a group' : 'per head'}, 1,024 of ${length}`,
        ours: median(ours),
        peer: { name: 'own dense', value: median(dense) },
        rounds: { ours, peer: dense },
        goal: index === 0 && length === 16384 ? questGoal : undefined,
      }),
    ),
  ];
}

/** Attention over plans: what a visible cell costs beside one of dense attention. */
export const attention: Suite = {
  id: 'attention',
  title:
    'attention over plans, choosing their keys and sparse decode steps against own dense attention; dense attention against the arithmetic peak',
  async run(options) {
    const lengths = options.contexts.length > 0 ? options.contexts : [16384];
    const records: BenchRecord[] = [];
    for (const length of lengths) {
      for (const work of works) records.push(...(await timed(length, work, options)));
      records.push(...(await chosen(length, options)));
    }
    return records;
  },
};
