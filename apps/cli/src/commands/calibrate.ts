import { writeTo } from '@filigree/checkpoint';
import { OptionError } from '@filigree/core-tensor';
import { kvCalibrations, kvMethod, parseKvPlan, type KvPlan } from '@filigree/kv-cache';
import {
  calibrations,
  parseHeadPlan,
  type Calibration,
  type CalibrationProgress,
  type CalibrationStore,
  type HeadPlan,
} from '@filigree/sparse-attention';
import type { Model } from '@filigree/transformer';
import { Option } from 'commander';
import { existsSync } from 'node:fs';
import { readFile, rm } from 'node:fs/promises';
import { basename } from 'node:path';
import type { Context } from '../context.js';
import { UsageError } from '../errors.js';
import { withModel } from '../open-model.js';
import { addModelOptions, type ModelOptions } from '../options/model-options.js';
import { numberBetween, wholeNumber } from '../options/numbers.js';
import { speech } from '../package-files.js';
import { decodeText } from '../read-text.js';
import type { AddCommand } from './command.js';

interface Options extends ModelOptions {
  readonly method: string;
  readonly bound?: number;
  readonly text?: string;
  readonly length: readonly number[];
  readonly samples: number;
  readonly out: string;
  readonly force?: true;
}

/** What can be calibrated, whatever a calibration has to know of a model. */
const all: readonly Calibration<Model>[] = [...calibrations, ...kvCalibrations];
const idList = all.map(({ id }) => id);

export const addCalibrate: AddCommand = (program, run) => {
  const bounds = all.flatMap(({ id, bound }) => (bound ? [`${bound.name} of ${id} (${bound.value})`] : []));
  addModelOptions(
    program
      .command('calibrate')
      .description(
        "find a method's options for every head of a model, or for the model, from texts; or what heads do, for a method of the cache",
      ),
  )
    .addOption(new Option('--method <id>', 'what to calibrate').choices(idList).makeOptionMandatory())
    .option('--bound <number>', `what the result must keep: ${bounds.join(', ')}`, numberBetween(0, 1e6, { above: true }))
    .option('--text <file>', 'the text to calibrate on (default: a speech that comes along)')
    .option('--length <tokens,…>', 'lengths of the samples', parseLengths, [2048])
    .option('--samples <n>', 'samples of each length', wholeNumber(1, 1000), 1)
    .requiredOption('-o, --out <file>', 'the JSON file to write; <file>.progress keeps what is done until then')
    .option('--force', 'replace the output file if there is one')
    .action((options: Options) => run((context) => runCalibrate(options, context)));
};

async function runCalibrate(options: Options, context: Context): Promise<undefined> {
  const { out, progress, signal } = context;
  const calibration = all.find(({ id }) => id === options.method);
  if (!calibration) throw new UsageError(`there is no calibration "${options.method}"; there are ${idList.join(', ')}`);
  if (options.bound !== undefined && !calibration.bound) throw new UsageError(`option '--bound': ${calibration.id} takes none`);
  if (existsSync(options.out) && !options.force) throw new UsageError(`${options.out} exists; --force replaces it`);
  const text = options.text === undefined ? speech() : decodeText(await readFile(options.text), options.text);
  const files = Array.from({ length: calibration.stages }, (_, stage) => `${options.out}.progress${stage || ''}`);
  const result = await withModel(options, context, (model) =>
    calibration.run(model, samplesOf(model, text, options), {
      name: basename(options.model),
      bound: options.bound ?? calibration.bound?.value ?? 0,
      stores: files.map(fileStore),
      signal,
      onProgress: (done, total) => {
        progress.update(`calibrate ${calibration.id}`, done, total, 'layers');
      },
    }),
  );
  await writeTo(options.out, [new TextEncoder().encode(result)]);
  for (const file of files) await rm(file, { force: true });
  await out.line(summary(calibration, result, options));
  return undefined;
}

/** Consecutive pieces of the text: of every length as many as asked for, none of which overlap. */
function samplesOf(model: Model, text: string, { length, samples }: Options): number[][] {
  const tokens = model.tokenize(text);
  const wanted = length.flatMap((tokens) => Array<number>(samples).fill(tokens));
  const total = wanted.reduce((sum, count) => sum + count, 0);
  if (total > tokens.length)
    throw new OptionError(
      `calibrate: the text has ${tokens.length} tokens, ${wanted.length} samples take ${total}; give a longer --text, or fewer`,
    );
  let start = 0;
  return wanted.map((count) => tokens.slice(start, (start += count)));
}

/** Progress in a file beside the output; what is in it is replaced as a whole. */
function fileStore(path: string): CalibrationStore {
  return {
    async load() {
      if (!existsSync(path)) return undefined;
      try {
        return JSON.parse(await readFile(path, 'utf8')) as CalibrationProgress;
      } catch (cause) {
        throw new OptionError(`calibrate: ${path} holds no progress of a calibration; remove it to start again`, { cause });
      }
    },
    save: (progress) => writeTo(path, [new TextEncoder().encode(JSON.stringify(progress))]),
  };
}

function summary({ id, result }: Calibration<Model>, text: string, { out }: Options): string {
  if (result === 'options') return `${out}:\n${text}`;
  return result === 'kv-plan' ? kvSummary(id, parseKvPlan(text), out) : headSummary(parseHeadPlan(text), out);
}

/** The range of every figure, and how the plan is used. */
function kvSummary(id: string, plan: KvPlan, out: string): string {
  const rows = Object.entries(plan.figures).map(([name, layers]) => {
    const figures = layers.flat();
    const [least, most] = [Math.min(...figures), Math.max(...figures)];
    return `  ${name}: ${figures.length} figures, ${least} to ${most}`;
  });
  const { title } = kvMethod(id);
  return [`${out}: ${title}`, ...rows, `Use it with --kv ${id}:plan=${out}`].join('\n');
}

function headSummary(plan: HeadPlan, out: string): string {
  const counts = new Map<string, number>();
  for (const { heads } of plan.layers) {
    for (const { method, options } of heads) {
      const choice = [method, ...Object.entries(options).map(([name, value]) => `${name}=${value}`)].join(' ');
      counts.set(choice, (counts.get(choice) ?? 0) + 1);
    }
  }
  const rows = [...counts].sort(([, a], [, b]) => b - a).map(([choice, heads]) => `${String(heads).padStart(6)}  ${choice}`);
  const figures = Object.entries(plan.calibration).map(([name, value]) => `${name} ${value}`);
  return [`${out}: ${figures.join(', ')}`, ' heads  choice', ...rows].join('\n');
}

function parseLengths(text: string): number[] {
  return text.split(',').map((part) => wholeNumber(16, 2 ** 20)(part));
}
