import { inChild } from '../children.js';
import type { KvStorage, KvTime } from '../children/kv-codecs.js';
import { layerShape } from '../children/sparse-attention.js';
import { cpuName } from '../measure/cpu.js';
import { median } from '../measure/median.js';
import { measureRoofline, medianRoofline } from '../measure/roofline.js';
import { benchRecord, type BenchRecord } from '../record.js';
import type { Suite, SuiteOptions } from '../suite.js';

/** What is compared, and how much faster the first is to be. */
const comparisons: readonly { readonly ours: KvStorage; readonly peer: KvStorage; readonly goal?: number }[] = [
  { ours: 'f16', peer: 'f32', goal: 1.7 },
  { ours: 'int8', peer: 'f32' },
  { ours: 'int8', peer: 'f16', goal: 1.3 },
  { ours: 'kivi4', peer: 'f32' },
  { ours: 'kivi4', peer: 'f16', goal: 1.8 },
  { ours: 'kivi2', peer: 'f16' },
  { ours: 'bitmap50', peer: 'f16' },
  { ours: 'bitmap70', peer: 'f16', goal: 1.3 },
];

async function timed(length: number, { threads, rounds, progress }: SuiteOptions): Promise<BenchRecord[]> {
  progress(`attention of one token over ${length} entries`);
  const before = await measureRoofline(threads);
  // A round takes some ten milliseconds a storage.
  const times = await inChild('kv-codecs', { threads, rounds: 10 * rounds, length });
  const ceilings = [before, await measureRoofline(threads)];
  const { heads, kvHeads, dim } = layerShape;
  const of = (wanted: KvStorage): KvTime => {
    const found = times.find(({ storage }) => storage === wanted);
    if (!found) throw new Error(`bench: ${wanted} was not measured`);
    return found;
  };
  return comparisons.map(({ ours, peer, goal }) => {
    const [own, other] = [of(ours), of(peer)];
    return benchRecord({
      suite: 'kv',
      context: length,
      group: `${length} entries`,
      work: `${ours}, ${length} entries, ${heads}/${kvHeads} heads of ${dim}, a layer`,
      oursName: ours,
      ours: median(own.milliseconds),
      unit: 'ms',
      peer: { name: `own ${peer}`, value: median(other.milliseconds) },
      rounds: { ours: own.milliseconds, peer: other.milliseconds },
      goal,
      bound: own.bytes / medianRoofline(ceilings).readGBps / 1e6,
      ceilings,
      cpu: cpuName(threads),
    });
  });
}

/** Attention of one token over caches of every storage. */
export const kv: Suite = {
  id: 'kv',
  title:
    'attention of one token over caches in f32, f16, int8, KIVI and Mustafar’s bitmaps, against each other and the read bandwidth',
  async run(options) {
    const records: BenchRecord[] = [];
    for (const length of options.contexts.length > 0 ? options.contexts : [8192, 16384])
      records.push(...(await timed(length, options)));
    return records;
  },
};
