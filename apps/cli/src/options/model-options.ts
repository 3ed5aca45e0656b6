import type { HeadPlan } from '@filigree/sparse-attention';
import { kvFormats } from '@filigree/kv-cache';
import { kvTypes, type KvType } from '@filigree/transformer';
import { InvalidArgumentError, Option, type Command } from 'commander';
import { parseAttention, parseHeadPlanFile, type AttentionChoice } from './attention.js';
import { parseKv, type KvMethodChoice } from './kv.js';
import { numberBetween, wholeNumber } from './numbers.js';

export const backendNames = ['native', 'webgpu', 'reference'] as const;
export type BackendName = (typeof backendNames)[number];

/** Options of every command that loads a model. */
export interface ModelOptions {
  readonly model: string;
  readonly backend?: BackendName;
  readonly threads?: number;
  readonly context?: number;
  readonly kvType?: KvType;
}

/** `kvType: false`: for commands that choose the types of the cache themselves. */
export function addModelOptions(command: Command, { kvType = true } = {}): Command {
  command
    .requiredOption(
      '-m, --model <source>',
      'a .gguf file, a folder with config.json, "owner/name[:file]" on the Hub, or a known id',
    )
    .addOption(backendOption())
    .addOption(threadsOption())
    .option('--context <tokens>', "longest context; default: the model's own, at most 8192", wholeNumber(1, 2 ** 24));
  if (!kvType) return command;
  return command.option(
    '--kv-type <type>',
    `how the KV cache is kept: ${kvTypes.join(', ')}, or types of codes as keys/values`,
    parseKvType,
  );
}

export function backendOption(): Option {
  return new Option('--backend <name>', 'what computes; default: native, else the best there is').choices(backendNames);
}

export function threadsOption(): Option {
  return new Option(
    '--threads <n>',
    'threads of the native backend; default: the physical cores it may use, at most 16',
  ).argParser(wholeNumber(1, 256));
}

/** Options of every command that generates text. */
export interface GenerationOptions {
  readonly maxTokens: number;
  readonly temperature?: number;
  readonly topK?: number;
  readonly topP?: number;
  readonly minP?: number;
  readonly seed?: number;
  readonly stop: readonly string[];
  readonly ignoreEos?: true;
  readonly prefillAttention?: AttentionChoice;
  readonly decodeAttention?: AttentionChoice;
  readonly headPlan?: HeadPlan;
  readonly kv?: KvMethodChoice;
  readonly speculate?: KvMethodChoice;
  readonly gamma?: number;
}

export function addGenerationOptions(command: Command, maxTokens: number): Command {
  return command
    .option('-n, --max-tokens <n>', 'most tokens of an answer', wholeNumber(1), maxTokens)
    .option('--temperature <t>', 'randomness; 0 always takes the likeliest token (default: 0)', numberBetween(0, 100))
    .option('--top-k <k>', 'sample among the k likeliest tokens', wholeNumber(1))
    .option(
      '--top-p <p>',
      'sample among the likeliest tokens that together have probability p',
      numberBetween(0, 1, { above: true }),
    )
    .option('--min-p <p>', 'sample among tokens at least p times as likely as the likeliest', numberBetween(0, 1))
    .option('--seed <n>', 'the same seed gives the same text', wholeNumber(0))
    .addOption(
      new Option('--stop <text>', 'end before this text; may be repeated')
        .argParser((text: string, before: readonly string[]) => {
          if (text === '') throw new InvalidArgumentError('A text is expected.');
          return [...before, text];
        })
        .default([] as readonly string[], 'none'),
    )
    .option('--ignore-eos', 'go on when the model ends its text')
    .option(
      '--prefill-attention <method>',
      'attention of the prompt, as method[:option=value,…]; see `filigree methods`',
      parseAttention('prefill'),
    )
    .option('--decode-attention <method>', 'attention of generated tokens, in the same form', parseAttention('decode'))
    .option('--head-plan <file>', 'a JSON file with a method for every head, where no method is given', parseHeadPlanFile)
    .option(
      '--kv <method>',
      'keep less of the prompt, as method[:option=value,…]; see `filigree methods`; not with sparse attention',
      parseKv,
    )
    .option(
      '--speculate <method>',
      'draft tokens over what a method of the cache keeps, and verify them over all of it: the same text, perhaps sooner',
      parseKv,
    )
    .option('--gamma <n>', 'tokens of a draft (default: 4)', wholeNumber(1, 64));
}

/** `int8`, or `int8/kivi4`: keys before values. */
function parseKvType(text: string): KvType {
  const one = kvTypes.find((type) => type === text);
  if (one) return one;
  const parts = text.split('/');
  const [k, v] = parts.map((part) => kvFormats.find((format) => format === part));
  if (k && v && parts.length === 2) return { k, v };
  throw new InvalidArgumentError(`Allowed choices are ${kvTypes.join(', ')}, and codes as keys/values: int8/kivi4.`);
}

/** As {@link parseKvType} takes it. */
export function kvTypeText(type: KvType): string {
  return typeof type === 'string' ? type : `${type.k}/${type.v}`;
}
