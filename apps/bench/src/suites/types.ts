import { existsSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { demandsOf } from '../llama/demands.js';
import { chosenModels, modelFiles } from '../llama/models.js';
import { llamaBench, llamaFolder, type Speeds } from '../llama/peers.js';
import { speedRecords } from '../llama/speed-records.js';
import { cpuName } from '../measure/cpu.js';
import { cacheFolder } from '../measure/paths.js';
import { measureRoofline } from '../measure/roofline.js';
import { runProgram } from '../measure/run-program.js';
import type { BenchRecord } from '../record.js';
import type { Suite } from '../suite.js';

/** Whole-file recipes of llama-quantize, and the ratios to llama-bench asked for on AVX-512/VNNI. */
const recipes: Readonly<Record<string, Partial<Speeds>>> = {
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
    const models = chosenModels(options.models.length > 0 ? options.models : ['smollm2']);
    progress('preparing the model and the peer');
    const files = await modelFiles();
    const bin = await llamaFolder(options.llamaBin);
    const peer = llamaBench(bin);
    progress('measuring the roofline');
    const roofline = await measureRoofline(threads);
    const cpu = cpuName(threads);
    const records: BenchRecord[] = [];
    for (const { id, variable } of models) {
      for (const [recipe, goals] of Object.entries(recipes)) {
        progress(`${id}: making the file in ${recipe}`);
        const path = await recoded(files[variable], id, recipe, bin);
        const shared = { suite: 'types', title: `${id} ${recipe}`, path, cpu, roofline, goals: () => goals };
        records.push(...(await speedRecords({ ...shared, demands: await demandsOf(path) }, options, [peer])));
      }
    }
    return records;
  },
};
