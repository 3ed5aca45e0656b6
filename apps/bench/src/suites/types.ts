import { existsSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { decodeBound, demandsOf, prefillBound } from '../llama/demands.js';
import { decodeTokens, interleaved, promptTokens } from '../llama/interleaved.js';
import { chosenModels, modelFiles } from '../llama/models.js';
import { llamaBench, llamaFolder } from '../llama/peers.js';
import { cpuName } from '../measure/cpu.js';
import { cacheFolder } from '../measure/paths.js';
import { measureRoofline } from '../measure/roofline.js';
import { runProgram } from '../measure/run-program.js';
import { benchRecord, type BenchRecord } from '../record.js';
import type { Suite } from '../suite.js';

/** Whole-file recipes of llama-quantize, and the ratios to llama-bench asked for on AVX-512/VNNI. */
const recipes: Readonly<Record<string, { readonly decode?: number; readonly prefill?: number }>> = {
  Q4_0: { decode: 1.5, prefill: 1.4 },
  Q4_1: { decode: 2, prefill: 4 },
  Q5_0: { decode: 1.5, prefill: 2 },
  Q5_1: {},
  Q4_K_M: { decode: 1.5, prefill: 2 },
  Q5_K_M: {},
  Q6_K: { decode: 1.5, prefill: 2 },
  Q8_0: { decode: 1.5, prefill: 2 },
  F16: {},
};

/** The model's file in another recipe, made once; the rounding of the first file stays in it, which speed does not see. */
async function recoded(path: string, id: string, recipe: string, bin: string): Promise<string> {
  const file = join(cacheFolder('bench-types'), `${id}-${recipe}.gguf`);
  if (existsSync(file)) return file;
  const unfinished = `${file}.${process.pid}.part`;
  await runProgram(join(bin, 'llama-quantize'), ['--allow-requantize', path, unfinished, recipe], { quiet: true });
  renameSync(unfinished, file);
  return file;
}

/** One model in every weight type beside llama-bench on the same file. */
export const types: Suite = {
  id: 'types',
  title: 'decode and prefill of SmolLM2 in every weight type against llama-bench',
  async run(options) {
    const { threads, progress } = options;
    const [model] = chosenModels(options.models);
    progress('preparing the model and the peer');
    const path = (await modelFiles())[model.variable];
    const bin = await llamaFolder(options.llamaBin);
    const peer = llamaBench(bin);
    progress('measuring the roofline');
    const roofline = await measureRoofline(threads);
    const cpu = cpuName(threads);
    const records: BenchRecord[] = [];
    for (const [recipe, goals] of Object.entries(recipes)) {
      progress(`making the file in ${recipe}`);
      const file = await recoded(path, model.id, recipe, bin);
      const { ours, theirs } = await interleaved({ title: recipe, path: file }, options, [peer]);
      const demands = await demandsOf(file);
      for (const [phase, tokens, bound] of [
        ['decode', decodeTokens, decodeBound(demands, roofline)],
        ['prefill', promptTokens, prefillBound(demands, roofline, promptTokens)],
      ] as const) {
        records.push(
          benchRecord({
            ...{
              suite: 'types',
              cpu,
              work: `${model.id} ${recipe}: ${phase} ${tokens} tokens`,
              ours: ours[phase],
              unit: 'tokens/s',
            },
            peer: { name: peer.name, value: theirs.get(peer)?.[phase] ?? NaN },
            goal: goals[phase],
            bound,
          }),
        );
      }
    }
    return records;
  },
};
