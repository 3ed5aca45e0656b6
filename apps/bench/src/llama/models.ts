import { join } from 'node:path';
import { repositoryRoot } from '../measure/paths.js';
import { runProgram } from '../measure/run-program.js';

/** A real model of the suite. */
export interface BenchModel {
  readonly id: string;
  readonly title: string;
  /** Of its weights, as llama-quantize names it. */
  readonly type: string;
  /** Environment variable that names its file; the name scripts/lib/models.mjs has for it. */
  readonly variable: string;
  /** Bytes beyond the file that a process may take at a context of 2,048 tokens. */
  readonly allowedBytes: number;
}

export const benchModels: readonly BenchModel[] = [
  {
    id: 'smollm2',
    title: 'SmolLM2 135M Q4_1',
    type: 'Q4_1',
    variable: 'FILIGREE_MODEL_SMOLLM2',
    allowedBytes: 200 * 2 ** 20,
  },
  {
    id: 'gemma3',
    title: 'Gemma 3 270M Q4_K_M',
    type: 'Q4_K_M',
    variable: 'FILIGREE_MODEL_GEMMA3',
    // The vocabulary of 262,144 words takes 220 MiB in the tokenizer alone.
    allowedBytes: 450 * 2 ** 20,
  },
];

/** Paths of the models' files by their variables; fetches what is neither named by the environment nor in .cache/models. */
export async function modelFiles(): Promise<Readonly<Record<string, string>>> {
  const output = await runProgram(process.execPath, [join(repositoryRoot, 'scripts/fetch-models.mjs')]);
  return JSON.parse(output.trim().split('\n').at(-1) ?? '{}') as Record<string, string>;
}

/** The models of those ids, or all. */
export function chosenModels(ids: readonly string[]): readonly BenchModel[] {
  for (const id of ids) {
    if (benchModels.every((model) => model.id !== id)) {
      throw new Error(`there is no model "${id}"; there are ${benchModels.map((model) => model.id).join(', ')}`);
    }
  }
  return benchModels.filter(({ id }) => ids.length === 0 || ids.includes(id));
}
