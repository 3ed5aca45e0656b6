import { streamingDefaults } from '@filigree/sparse-attention';
import { decodeBound, demandsOf, withWindow } from '../llama/demands.js';
import { measureSpeeds, ours, speedFile } from '../llama/measure-speeds.js';
import { chosenModels, modelFiles } from '../llama/models.js';
import { llamaBench, llamaFolder } from '../llama/peers.js';
import { testName, type SpeedTest } from '../llama/speed-test.js';
import { cpuName } from '../measure/cpu.js';
import { medianRoofline } from '../measure/roofline.js';
import { benchRecord, type BenchRecord } from '../record.js';
import type { Suite } from '../suite.js';

const contexts = [128, 1024, 4096, 8192];
const decodedTokens = 32;
/** Positions left free at the end of what a model was trained for. */
const room = 64;
/** From this context on keys and values are most of what a token reads, and their reading is asked to be near the roofline. */
const longContext = 8192 - room;
const longGoal = 0.7;

/** Decoding after those contexts, or as much of them as the model has positions for. */
export function contextTests(wanted: readonly number[], contextLength: number): SpeedTest[] {
  const lengths = (wanted.length > 0 ? wanted : contexts).map((length) => Math.min(length, contextLength - room));
  return [...new Set(lengths)].map((context) => ({ phase: 'decode', tokens: decodedTokens, context }));
}

/** Decode speed as the context grows: dense beside llama-bench, and with sinks + window beside dense. */
export const context: Suite = {
  id: 'context',
  title: 'decode speed at contexts of 128 to 8,192 tokens against llama-bench and the bytes to read',
  async run(options) {
    const { threads, progress } = options;
    const models = chosenModels(options.models.length > 0 ? options.models : ['smollm2']);
    progress('preparing the models and the peer');
    const files = await modelFiles();
    const peer = llamaBench(await llamaFolder(options.llamaBin));
    const dense = ours();
    const sparse = ours({ method: 'streaming-llm', options: streamingDefaults });
    const visible = streamingDefaults.sinks + streamingDefaults.window;
    const records: BenchRecord[] = [];
    for (const { title, variable } of models) {
      const path = files[variable];
      const demands = await demandsOf(path);
      const tests = contextTests(options.contexts, demands.contextLength);
      const file = await speedFile(title, path, threads, tests);
      for (const test of tests) {
        const { values, medians, ceilings } = await measureSpeeds(file, test, [dense, peer, sparse], options);
        const roofline = medianRoofline(ceilings);
        const shared = {
          suite: 'context',
          group: title,
          context: test.context,
          unit: 'tokens/s',
          ceilings,
          cpu: cpuName(threads),
        } as const;
        records.push(
          benchRecord({
            ...shared,
            work: `${title}: ${testName(test)}`,
            ours: medians[0],
            peer: { name: peer.name, value: medians[1] },
            rounds: { ours: values[0], peer: values[1] },
            bound: decodeBound(demands, test, roofline),
            boundGoal: test.context >= longContext ? longGoal : undefined,
          }),
          benchRecord({
            ...shared,
            work: `${title}: ${testName(test)}, sinks + window`,
            ours: medians[2],
            oursName: sparse.name,
            peer: { name: 'ours, dense', value: medians[0] },
            rounds: { ours: values[2], peer: values[0] },
            bound: decodeBound(withWindow(demands, visible), test, roofline),
          }),
        );
      }
    }
    return records;
  },
};
