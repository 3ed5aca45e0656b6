import { inChild } from '../children.js';
import { demandsOf, type Demands } from '../llama/demands.js';
import { speedGoal } from '../llama/goals.js';
import { measureSpeeds, ours, speedFile } from '../llama/measure-speeds.js';
import { chosenModels, modelFiles, type BenchModel } from '../llama/models.js';
import { llamaBench, llamaFolder, nodeLlamaCpp } from '../llama/peers.js';
import { speedRecords } from '../llama/speed-records.js';
import { decode128, prefill512, testName, type SpeedTest } from '../llama/speed-test.js';
import { cpuName, cpuPath } from '../measure/cpu.js';
import { benchRecord, type BenchRecord, type Measurement } from '../record.js';
import type { Suite, SuiteOptions } from '../suite.js';

const longPrompt = 3000;
const memoryContext = 2048;

interface Bench {
  readonly model: BenchModel;
  readonly path: string;
  readonly options: SuiteOptions;
  readonly demands: Demands;
  record(measured: Omit<Measurement, 'suite' | 'cpu'>): BenchRecord;
}

async function windowRecord({ model, path, options, record }: Bench): Promise<BenchRecord> {
  const test: SpeedTest = { phase: 'prefill', tokens: longPrompt, context: 0 };
  const file = await speedFile(model.title, path, options.threads, [test]);
  const contenders = [ours({ method: 'streaming-llm' }), ours()];
  // Long prompts vary little; three rounds tell them apart.
  const { values, medians, ceilings } = await measureSpeeds(file, test, contenders, {
    ...options,
    rounds: Math.min(options.rounds, 3),
  });
  return record({
    group: 'prefill',
    work: `${model.title}: ${testName(test)}, sinks + window`,
    ours: medians[0],
    oursName: contenders[0].name,
    unit: 'tokens/s',
    peer: { name: 'ours, dense', value: medians[1] },
    rounds: { ours: values[0], peer: values[1] },
    goal: 1,
    ceilings,
  });
}

async function processRecords(bench: Bench): Promise<BenchRecord[]> {
  const { path, options, model, demands } = bench;
  const { threads, progress } = options;
  progress(`${model.title}: event loop and memory`);
  const delay = await inChild('latency', { path, threads, prompt: prefill512.tokens });
  const { peakBytes, leftBytes } = await inChild('memory', { path, threads, prompt: memoryContext });
  const allowed = demands.fileBytes + model.allowedBytes;
  return [
    bench.record({
      work: `${model.title}: event-loop delay while generating, p99`,
      ours: delay,
      unit: 'ms',
      peer: { name: 'the limit', value: 15 },
      goal: 1,
    }),
    bench.record({
      work: `${model.title}: peak memory at ${memoryContext} tokens`,
      ours: peakBytes / 2 ** 20,
      unit: 'MiB',
      peer: { name: `file + ${model.allowedBytes / 2 ** 20} MiB`, value: allowed / 2 ** 20 },
      goal: 1,
    }),
    bench.record({
      work: `${model.title}: left on the backend after dispose`,
      ours: leftBytes,
      unit: 'bytes',
      peer: { name: 'before loading', value: 0 },
      goal: 1,
    }),
  ];
}

/** Real models beside llama.cpp's own benchmark and node-llama-cpp: the same file, the same threads, interleaved. */
export const llama: Suite = {
  id: 'llama',
  title: 'decode and prefill against llama-bench and node-llama-cpp; window, event loop, memory',
  async run(options) {
    const chosen = chosenModels(options.models);
    options.progress('preparing models and peers');
    const files = await modelFiles();
    const peers = [llamaBench(await llamaFolder(options.llamaBin)), await nodeLlamaCpp()];
    const cpu = cpuName(options.threads);
    const records: BenchRecord[] = [];
    for (const model of chosen) {
      const path = files[model.variable];
      const record = (measured: Omit<Measurement, 'suite' | 'cpu'>) => benchRecord({ suite: 'llama', cpu, ...measured });
      const demands = await demandsOf(path);
      const goal = (peer: string, test: SpeedTest) =>
        peer === 'llama-bench' ? speedGoal(model.type, test, cpuPath()) : undefined;
      const tests = [decode128, prefill512];
      const speeds = { suite: 'llama', title: model.title, path, cpu, demands, tests, goal };
      records.push(...(await speedRecords(speeds, options, peers)));
      const bench: Bench = { model, path, options, demands, record };
      records.push(await windowRecord(bench));
      records.push(...(await processRecords(bench)));
    }
    return records;
  },
};
