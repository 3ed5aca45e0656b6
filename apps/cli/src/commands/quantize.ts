import { openGguf, resolveModel } from '@filigree/checkpoint';
import {
  planGguf,
  quantizeGguf,
  recipes,
  type PlanQuantizationOptions,
  type QuantizedTensorReport,
  type QuantizeRule,
} from '@filigree/quantization';
import { loadModel } from '@filigree/transformer';
import { InvalidArgumentError, Option } from 'commander';
import { existsSync } from 'node:fs';
import { readFile, realpath } from 'node:fs/promises';
import { openBackend } from '../backend.js';
import type { Context } from '../context.js';
import { UsageError } from '../errors.js';
import { backendOption, threadsOption, type BackendName } from '../options/model-options.js';
import { wholeNumber } from '../options/numbers.js';
import { speech } from '../package-files.js';
import { downloadProgress } from '../progress.js';
import { compareModels, windowTokens, type Quality } from '../quality/compare-models.js';
import { qualityText } from '../quantize/quality-report.js';
import { bitsPerWeight } from '../format/numbers.js';
import { fallbackNote, sizeLine, sizesOf, sizeTable } from '../quantize/size-report.js';
import { decodeText } from '../read-text.js';
import type { AddCommand } from './command.js';

interface Options {
  readonly type: string;
  readonly rule: readonly QuantizeRule[];
  readonly pure?: true;
  readonly allowRequantize?: true;
  readonly dryRun?: true;
  readonly quality?: true;
  readonly text?: string;
  readonly windows?: number;
  readonly force?: true;
  readonly backend?: BackendName;
  readonly threads?: number;
  readonly json?: true;
}

/** Windows of the text that --quality compares on unless told otherwise. */
const defaultWindows = 8;

export const addQuantize: AddCommand = (program, run) => {
  program
    .command('quantize')
    .description('write a GGUF model with its weights quantised, and report sizes and, with --quality, what it cost')
    .argument('<model>', 'a .gguf file, or the name of a model')
    .argument('<output>', 'the .gguf file to write')
    .requiredOption('-t, --type <type>', `a type for all weights, or a mix of types: ${recipes.map(({ id }) => id).join(', ')}`)
    .addOption(
      new Option(
        '--rule <pattern=type>',
        'another type for tensors whose name has this part, or matches /this/; may be repeated',
      )
        .argParser((text: string, before: readonly QuantizeRule[]) => [...before, parseRule(text)])
        .default([] as readonly QuantizeRule[], 'none'),
    )
    .option('--pure', 'the one type for all weights, embeddings included; no mix')
    .option('--allow-requantize', 'take weights that are quantised already')
    .option('--dry-run', 'report the types and sizes; write nothing')
    .option('--quality', 'compare the model before and after on a text: perplexity, KL divergence')
    .option('--text <file>', 'the text for --quality (default: a speech that comes along)')
    .option(
      '--windows <n>',
      `windows of ${windowTokens} tokens for --quality (default: ${defaultWindows})`,
      wholeNumber(1, 1e6),
    )
    .option('--force', 'replace the output file if there is one')
    .addOption(backendOption())
    .addOption(threadsOption())
    .option('--json', 'print one JSON object')
    .action((model: string, output: string, options: Options) =>
      run((context) => quantizeModel(model, output, options, context)),
    );
};

async function quantizeModel(model: string, output: string, options: Options, context: Context): Promise<undefined> {
  const { out, note, signal, bold, progress } = context;
  if (!options.quality && (options.text !== undefined || options.windows !== undefined))
    throw new UsageError(`option '--${options.text === undefined ? 'windows' : 'text'}' goes with --quality`);
  if (options.quality && options.dryRun) throw new UsageError('--quality needs the file that --dry-run does not write');
  const { path, kind } = await resolveModel(model, { signal, onProgress: downloadProgress(progress) });
  progress.stop();
  if (kind === 'folder') throw new UsageError(`${path} is a folder; quantize takes a .gguf file`);
  if (!options.dryRun) await assertWritable(path, output, options);
  const text = options.text === undefined ? undefined : decodeText(await readFile(options.text), options.text);

  const report = await writeQuantized(path, output, options, context);
  const sizes = sizesOf(report);
  if (!options.json) {
    await out.line(sizeTable(report, bold));
    const fallbacks = fallbackNote(report);
    if (fallbacks !== undefined) note(fallbacks);
    note(`${options.dryRun ? 'It would be' : `${output}:`} ${sizeLine(sizes)}.`);
  }
  const quality = options.quality ? await measureQuality(path, output, text, options, context) : undefined;
  if (options.json) {
    const bits = bitsPerWeight(sizes.bytesAfter, sizes.weights);
    const tensors = report.map(({ name, from, to, instead, shape, bytesBefore, bytesAfter }) => ({
      ...{ name, from, to, ...(instead === undefined ? {} : { instead }) },
      ...{ shape, bytesBefore, bytesAfter },
    }));
    await out.json({
      model: path,
      output,
      type: options.type,
      ...sizes,
      bitsPerWeight: bits,
      tensors,
      ...(quality ? { quality } : {}),
    });
  } else if (quality) await out.line(`\n${qualityText(quality)}`);
  return undefined;
}

async function writeQuantized(
  path: string,
  output: string,
  options: Options,
  context: Context,
): Promise<readonly QuantizedTensorReport[]> {
  const { signal, progress } = context;
  const plan: PlanQuantizationOptions = {
    type: options.type,
    rules: options.rule,
    pure: options.pure,
    allowRequantize: options.allowRequantize,
  };
  const file = await openGguf(path, { signal });
  try {
    if (options.dryRun) return planGguf(file, plan);
    const backend = await openBackend({ ...options, backend: options.backend ?? 'native' }, context);
    try {
      return await quantizeGguf(file, output, {
        ...plan,
        backend,
        signal,
        onProgress: ({ doneBytes, totalBytes }) => {
          progress.update('quantize', doneBytes, totalBytes);
        },
      });
    } finally {
      progress.stop();
      backend.dispose();
    }
  } finally {
    await file.close();
  }
}

async function measureQuality(
  before: string,
  after: string,
  text: string | undefined,
  options: Options,
  context: Context,
): Promise<Quality> {
  const { signal, progress } = context;
  const backend = await openBackend(options, context);
  try {
    const models = [];
    try {
      for (const path of [before, after]) models.push(await loadModel(path, { backend, signal }));
      const [original, quantized] = models;
      const tokens = original.tokenize(text ?? speech());
      if (tokens.length < windowTokens)
        throw new UsageError(
          `--quality needs ${windowTokens} tokens of text; ${options.text ?? 'the text'} has ${tokens.length}`,
        );
      const [quality] = await compareModels(original, [quantized], tokens, {
        windows: options.windows ?? defaultWindows,
        signal,
        onProgress: (done, total) => {
          progress.update('compare', done, total, 'tokens');
        },
      });
      return quality;
    } finally {
      progress.stop();
      for (const loaded of models) loaded.dispose();
    }
  } finally {
    backend.dispose();
  }
}

/** The output must not be the model, and not there unless it may be replaced. */
async function assertWritable(path: string, output: string, { force }: Options): Promise<void> {
  if (!existsSync(output)) return;
  if ((await realpath(output)) === (await realpath(path)))
    throw new UsageError(`${output} is the model that is read; name another file`);
  if (!force) throw new UsageError(`${output} is there already; --force replaces it`);
}

/** `attn_v=Q8_0`, `/blk\.[01]\./=F16`. */
function parseRule(text: string): QuantizeRule {
  const at = text.lastIndexOf('=');
  if (at < 1 || at === text.length - 1) throw new InvalidArgumentError('A rule is expected to be pattern=TYPE.');
  const [pattern, type] = [text.slice(0, at), text.slice(at + 1).toUpperCase()];
  if (!(pattern.length > 2 && pattern.startsWith('/') && pattern.endsWith('/'))) return { pattern, type };
  try {
    return { pattern: new RegExp(pattern.slice(1, -1)), type };
  } catch {
    throw new InvalidArgumentError(`${pattern} is no regular expression.`);
  }
}
