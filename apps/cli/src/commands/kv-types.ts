import { kvFormats, type KvFormat } from '@filigree/kv-cache';
import type { Model } from '@filigree/transformer';
import { InvalidArgumentError } from 'commander';
import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import type { Context } from '../context.js';
import { UsageError } from '../errors.js';
import { right, table } from '../format/table.js';
import { withModel } from '../open-model.js';
import { addModelOptions, type ModelOptions } from '../options/model-options.js';
import { wholeNumber } from '../options/numbers.js';
import { speech } from '../package-files.js';
import { compareModels, windowTokens, type Quality } from '../quality/compare-models.js';
import { decodeText } from '../read-text.js';
import type { AddCommand } from './command.js';

/** Of pruned pages those with half of the numbers; the others lie around them. */
const paired: readonly KvFormat[] = ['int8', 'kivi4', 'kivi2', 'turbo4', 'turbo2', 'bitmap50'];

interface Options extends ModelOptions {
  readonly types: readonly KvFormat[];
  readonly text?: string;
  readonly windows: number;
  readonly json?: true;
}

/** Two types of codes, and what a cache of them does to the predictions of one in f16. */
interface Pair {
  readonly k: KvFormat;
  readonly v: KvFormat;
  /** Of an entry of a layer, keys and values of all heads. */
  readonly bytes: number;
  readonly quality: Quality;
}

export const addKvTypes: AddCommand = (program, run) => {
  addModelOptions(
    program
      .command('kv-types')
      .description('what types of the KV cache do to the predictions of a model, keys × values: KL divergence from f16'),
    { kvType: false },
  )
    .option('--types <type,…>', 'the types to pair', parseTypes, [...paired])
    .option('--text <file>', 'the text to read (default: a speech that comes along)')
    .option('--windows <n>', `windows of ${windowTokens} tokens of it`, wholeNumber(1, 1e6), 2)
    .option('--json', 'print one JSON object')
    .action((options: Options) => run((context) => compareTypes(options, context)));
};

async function compareTypes(options: Options, context: Context): Promise<undefined> {
  const { out, bold } = context;
  const text = options.text === undefined ? speech() : decodeText(await readFile(options.text), options.text);
  // Activations of 8 bits turn any difference, even that of f32 from f16 rows, into a KL of 3e-3 (SmolLM2 135M): they would hide what is looked for.
  const exact = { ...options, activations: 'none' } as const;
  const compared = await withModel(exact, context, async (model) => ({
    model: basename(options.model),
    backend: model.backend.kind,
    device: model.backend.capabilities.device,
    rows: { type: 'f16', bytes: model.withKvType('f16').kvEntryBytes },
    pairs: await measure(model, text, options, context),
  }));
  if (options.json) await out.json(compared);
  else await out.line(report(compared.pairs, options.types, bold));
  return undefined;
}

async function measure(
  model: Model,
  text: string,
  { types, windows }: Options,
  { signal, progress }: Context,
): Promise<Pair[]> {
  const tokens = model.tokenize(text);
  if (tokens.length < windowTokens)
    throw new UsageError(`kv-types needs ${windowTokens} tokens of text; there are ${tokens.length}`);
  const choices = types.flatMap((k) => types.map((v) => ({ k, v })));
  const f16 = model.withKvType('f16');
  const models = choices.map((choice) => model.withKvType(choice));
  const qualities = await compareModels(f16, models, tokens, {
    ...{ windows, signal },
    onProgress: (done, total) => {
      progress.update('compare', done, total, 'tokens');
    },
  });
  return choices.map((choice, index) => ({ ...choice, bytes: models[index].kvEntryBytes, quality: qualities[index] }));
}

function report(pairs: readonly Pair[], types: readonly KvFormat[], bold: (text: string) => string): string {
  const [{ quality }] = pairs;
  const rows = types.map((k) => [k, ...types.map((v) => cell(pairs.find((pair) => pair.k === k && pair.v === v)))]);
  return [
    `KL divergence from f16, mean nats of a token over ${quality.tokens} tokens of ${quality.windows} windows; bytes of an entry of a layer`,
    table(['keys \\ values', ...types.map((type) => right(type))], rows, bold),
  ].join('\n');
}

function cell(pair: Pair | undefined): string {
  return pair ? `${pair.quality.klMean.toExponential(1)}  ${pair.bytes} B` : '';
}

function parseTypes(text: string): KvFormat[] {
  const types = text.split(',').map((part) => {
    const type = kvFormats.find((format) => format === part.trim());
    if (!type) throw new InvalidArgumentError(`There is no type "${part}"; there are ${kvFormats.join(', ')}.`);
    return type;
  });
  return [...new Set(types)];
}
