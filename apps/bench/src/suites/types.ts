import { existsSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { demandsOf } from '../llama/demands.js';
import { speedGoal } from '../llama/goals.js';
import { chosenModels, modelFiles, type BenchModel } from '../llama/models.js';
import { llamaBench, llamaFolder } from '../llama/peers.js';
import { speedRecords } from '../llama/speed-records.js';
import { decode128, prefill4096, prefill512 } from '../llama/speed-test.js';
import { cpuName, cpuPath } from '../measure/cpu.js';
import { cacheFolder } from '../measure/paths.js';
import { runProgram } from '../measure/run-program.js';
import type { BenchRecord } from '../record.js';
import type { Suite } from '../suite.js';

/** Whole-file recipes of llama-quantize. */
const recipes = ['Q4_0', 'Q4_1', 'Q5_0', 'Q5_1', 'Q4_K_M', 'Q5_K_M', 'Q6_K', 'Q8_0', 'F16'];
/** The one whose long prompt is measured too. */
const longPromptRecipe = 'Q4_1';

/** The model's file in another recipe, made once; the rounding of the first file stays in it, which speed does not see. */
async function recoded(path: string, id: string, recipe: string, bin: string): Promise<string> {
  const file = join(cacheFolder('bench-types'), `${id}-${recipe}.gguf`);
  if (existsSync(file)) return file;
  const unfinished = `${file}.${process.pid}.part`;
  await runProgram(join(bin, 'llama-quantize'), ['--allow-requantize', path, unfinished, recipe], { quiet: true });
  renameSync(unfinished, file);
  return file;
}

/** SmolLM2 goes through every recipe; of others the file itself is measured. */
function recipesOf({ id, type }: BenchModel): readonly string[] {
  return id === 'smollm2' ? recipes : [type];
}

/** Every weight type beside llama-bench on the same file. */
export const types: Suite = {
  id: 'types',
  title: 'decode and prefill of SmolLM2 in every weight type, and of Gemma, against llama-bench',
  async run(options) {
    const { threads, progress } = options;
    const models = chosenModels(options.models);
    progress('preparing the models and the peer');
    const files = await modelFiles();
    const bin = await llamaFolder(options.llamaBin);
    const peer = llamaBench(bin);
    const cpu = cpuName(threads);
    const records: BenchRecord[] = [];
    for (const model of models) {
      for (const type of recipesOf(model).filter((name) => options.types.length === 0 || options.types.includes(name))) {
        const title = `${model.id} ${type}`;
        progress(`${title}: making the file`);
        const own = files[model.variable];
        const path = type === model.type ? own : await recoded(own, model.id, type, bin);
        const tests = [decode128, prefill512, ...(model.id === 'smollm2' && type === longPromptRecipe ? [prefill4096] : [])];
        const goal = (_: string, test: (typeof tests)[number]) => speedGoal(type, test, cpuPath());
        const bench = { suite: 'types', title, path, cpu, tests, goal, demands: await demandsOf(path) };
        records.push(...(await speedRecords(bench, options, [peer])));
      }
    }
    return records;
  },
};
