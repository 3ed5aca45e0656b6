import { resolveModel, writeTo } from '@filigree/checkpoint';
import {
  cellsOf,
  chatFormat,
  evaluate,
  modelSubject,
  methodLabel,
  payoffsOf,
  phaseOf,
  plainFormat,
  planRun,
  speedsOf,
  tasksNamed,
  taskGroups,
  type MethodRun,
  type PlantedResult,
  type PromptFormat,
  type RunFacts,
  type Task,
} from '@filigree/evaluation';
import type { HeadPlan } from '@filigree/sparse-attention';
import { loadModel, type Model } from '@filigree/transformer';
import { InvalidArgumentError, Option } from 'commander';
import { mkdir, readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { openBackend } from '../backend.js';
import type { Context } from '../context.js';
import { UsageError } from '../errors.js';
import { evalText } from '../eval/eval-table.js';
import { RecordFile } from '../eval/record-file.js';
import { durationText } from '../eval/report-text.js';
import { runFacts } from '../eval/run-facts.js';
import { plantedColumns, plantedPart, plantedRows, runPlanted } from '../eval/run-planted.js';
import { estimateTime } from '../eval/time-budget.js';
import { table } from '../format/table.js';
import { parseHeadPlanFile } from '../options/attention.js';
import { parseKvMethods } from '../options/kv.js';
import { parseMethods } from '../options/methods.js';
import { addModelOptions, kvTypeText, type ModelOptions } from '../options/model-options.js';
import { numberBetween, wholeNumber } from '../options/numbers.js';
import { speech } from '../package-files.js';
import { downloadProgress } from '../progress.js';
import { decodeText } from '../read-text.js';
import type { AddCommand } from './command.js';

interface Options extends ModelOptions {
  readonly method: readonly MethodRun[];
  readonly kv: readonly MethodRun[];
  readonly headPlan: readonly NamedPlan[];
  readonly task: readonly string[];
  readonly length: readonly number[];
  readonly samples: number;
  readonly queries: number;
  readonly out: string;
  readonly budget?: number;
  readonly seed: number;
  readonly text?: string;
  readonly format: 'plain' | 'chat';
  readonly questions: 'method' | 'dense';
  readonly generate?: true;
  readonly json?: true;
}

interface NamedPlan {
  readonly name: string;
  readonly plan: HeadPlan;
}

/** The task without a model, which {@link tasksNamed} does not know. */
const plantedTask = 'planted';

export const addEval: AddCommand = (program, run) => {
  const command = program
    .command('eval')
    .description('measure methods of sparse attention beside dense attention: quality, time, and at which length they pay');
  addModelOptions(command)
    .option('--method <list>', 'methods, as a,b:option=value,…; dense always runs', parseMethods, [])
    .option(
      '--kv <list>',
      'methods that keep less of the cache, in the same form; after=question cuts down when the question was read',
      parseKvMethods,
      [],
    )
    .addOption(
      new Option('--head-plan <file>', 'a JSON file with a method for every head, evaluated beside them; may be repeated')
        .argParser((path: string, before: readonly NamedPlan[]) => [
          ...before,
          { name: basename(path), plan: parseHeadPlanFile(path) },
        ])
        .default([], 'none'),
    )
    .option(
      '--task <list>',
      `tasks: ${[...taskGroups, plantedTask].join(', ')}, or one of a group, as ruler-single-1`,
      parseNames,
      ['needle'],
    )
    .option('--length <list>', 'tokens of context, question and answer', parseLengths, [2048, 4096, 8192])
    .option('--samples <n>', 'contexts of a task and length', wholeNumber(1, 1e5), 10)
    .option('--queries <n>', 'questions of a context', wholeNumber(1, 100), 10)
    .requiredOption('--out <folder>', 'where records and the report go; a run that is there already is taken up')
    .option(
      '--budget <minutes>',
      'end after this time; the same command goes on from there',
      numberBetween(0, 1e5, { above: true }),
    )
    .option('--seed <n>', 'the same seed gives the same contexts', wholeNumber(0), 43)
    .option('--text <file>', 'the text for perplexity (default: a speech of some 7,000 tokens that comes along)')
    .addOption(
      new Option('--format <name>', 'plain text, or turns of the chat template').choices(['plain', 'chat']).default('plain'),
    )
    .addOption(
      new Option('--questions <how>', 'read questions by the method, as the end of the prompt, or dense')
        .choices(['method', 'dense'])
        .default('method'),
    )
    .option('--generate', 'generate answers of every task too, beside forcing them')
    .option('--json', 'print one JSON object')
    .action((options: Options) => run((context) => runEval(options, context)));
};

async function runEval(options: Options, context: Context): Promise<undefined> {
  const { signal, progress } = context;
  const { path, kind } = await resolveModel(options.model, { signal, onProgress: downloadProgress(progress) });
  progress.stop();
  if (kind === 'folder') throw new UsageError(`${path} is a folder; eval takes a .gguf file, whose hash records name`);
  const content = options.text === undefined ? speech() : decodeText(await readFile(options.text), options.text);
  const plans = options.headPlan.map(({ name, plan }) => planRun(name, plan));
  const methods = [...options.method, ...options.kv, ...(await Promise.all(plans))];
  if (methods.length === 0) throw new UsageError('eval takes a --method, a --kv or a --head-plan');
  const named = options.task.filter((name) => name !== plantedTask);
  const tasks = tasksNamed(named, content);
  await mkdir(options.out, { recursive: true });
  const backend = await openBackend(options, context);
  try {
    const size = options.context ?? Math.max(...options.length);
    const model = await loadModel(path, { backend, signal, context: size, kvType: options.kvType });
    try {
      const usesText = tasks.some(({ reading }) => reading === 'bits');
      const text = usesText
        ? { name: options.text === undefined ? 'state-of-the-union-1961' : basename(options.text), content }
        : undefined;
      const { seed, queries, questions, format } = options;
      const facts = await runFacts(model, { path, seed, queries, questions, format, text }, signal);
      await evaluateModel(model, { options, methods, facts, tasks, context });
    } finally {
      model.dispose();
    }
  } finally {
    progress.stop();
    backend.dispose();
  }
  return undefined;
}

interface Evaluation {
  readonly options: Options;
  /** Those of the options, and the plans. */
  readonly methods: readonly MethodRun[];
  readonly facts: RunFacts;
  readonly tasks: readonly Task[];
  readonly context: Context;
}

async function evaluateModel(model: Model, evaluation: Evaluation): Promise<void> {
  const { options, context } = evaluation;
  const log = await RecordFile.open(join(options.out, 'records.jsonl'));
  try {
    const unfinished = await readAll(model, evaluation, log);
    const planted = options.task.includes(plantedTask)
      ? await runPlanted({
          ...{ backend: model.backend, methods: options.method, lengths: options.length, seed: options.seed },
          ...{ samples: Math.min(options.samples, 5), signal: context.signal, note: context.note },
        })
      : [];
    await report(evaluation, { log, planted, unfinished });
  } finally {
    await log.close();
  }
}

/** Reads what is not there yet; resolves with why it is not all, if it is not. */
async function readAll(
  model: Model,
  { options, methods, facts, tasks, context }: Evaluation,
  log: RecordFile,
): Promise<string | undefined> {
  const { note, signal, progress } = context;
  if (tasks.length === 0) return undefined;
  const subject = modelSubject(model);
  const { length: lengths, samples, budget } = options;
  const work = { tasks, methods, lengths, samples, facts, records: log.records };
  const { contexts, seconds } = await estimateTime(subject, work, signal);
  const limit = budget === undefined ? 'no budget' : `a budget of ${budget} min`;
  note(`${contexts} contexts to read, at most about ${durationText(seconds)} as if all were dense; ${limit}.`);
  const started = performance.now();
  const minutes = (): number => (performance.now() - started) / 60_000;
  let ended = false;
  const outOfTime = budget === undefined ? undefined : (): boolean => (ended = minutes() >= budget);
  let read = 0;
  const steps = evaluate({
    ...{ subject, format: formatOf(model, options), facts, tasks, methods, lengths, samples, log, outOfTime, signal },
    generate: options.generate,
  });
  for await (const { done, total, record } of steps) {
    if (record) read++;
    progress.update('evaluate', done, total, 'contexts');
  }
  progress.stop();
  if (!ended) return undefined;
  const unfinished = `The budget of ${budget ?? 0} minutes ended after ${read} of ${contexts} contexts; the same command goes on from there.`;
  note(unfinished);
  return unfinished;
}

function formatOf({ tokenizer, chatTemplate }: Model, { format }: Options): PromptFormat {
  if (format === 'plain') return plainFormat(tokenizer);
  if (!chatTemplate) throw new UsageError('--format chat needs a model with a chat template');
  return chatFormat(tokenizer, chatTemplate);
}

async function report(
  { options, methods, facts, tasks, context }: Evaluation,
  { log, planted, unfinished }: { log: RecordFile; planted: readonly PlantedResult[]; unfinished: string | undefined },
): Promise<void> {
  const { out, bold, note } = context;
  // A folder may hold runs of other seeds and models: those are not of this report.
  const asked = new Set(tasks.map(({ id }) => id));
  const records = log.records.filter(
    (record) => asked.has(record.task) && Object.entries(facts).every(([name, value]) => Reflect.get(record, name) === value),
  );
  const cells = cellsOf(records, tasks);
  const speeds = speedsOf(records);
  const runs = new Map(methods.map((method) => [methodLabel(method), method]));
  const payoffs = payoffsOf(cells, speeds, (method) => phaseOf(runs.get(methodLabel(method)) ?? method));
  const command = `filigree eval ${commandLine(options)}`;
  // Plots need their library only here.
  const { htmlReport } = await import('../eval/html-report.js');
  const page = htmlReport({
    ...{ command, facts, tasks, records, cells, speeds, payoffs, unfinished },
    planted: planted.length > 0 ? plantedPart(planted) : undefined,
  });
  const path = join(options.out, 'report.html');
  const encoder = new TextEncoder();
  await writeTo(path, [encoder.encode(page)]);
  if (planted.length > 0)
    await writeTo(
      join(options.out, 'planted.jsonl'),
      planted.map((result) => encoder.encode(`${JSON.stringify(result)}\n`)),
    );
  if (options.json) {
    await out.json({
      facts,
      cells: cells.map(({ task, ...cell }) => ({ task: task.id, ...cell })),
      speeds,
      payoffs,
      planted,
      report: path,
    });
    return;
  }
  if (cells.length > 0) await out.line(evalText({ cells, speeds, payoffs }, bold));
  if (planted.length > 0) await out.line(`\n${table(plantedColumns, plantedRows(planted), bold)}`);
  note(`${path}, and the records beside it.`);
}

/** The options as they would be written, for the report. */
function commandLine(options: Options): string {
  const list = (methods: readonly MethodRun[]): string | undefined =>
    methods
      .map(({ id, options: own }) => {
        const given = Object.entries(own).map(([name, value]) => `${name}=${value}`);
        return given.length === 0 ? id : `${id}:${given.join(',')}`;
      })
      .join(',') || undefined;
  const flags: readonly (readonly [string, string | number | undefined])[] = [
    ['model', basename(options.model)],
    ['method', list(options.method)],
    ['kv', list(options.kv)?.replaceAll('kv/', '')],
    ...options.headPlan.map(({ name }) => ['head-plan', name] as const),
    ['task', options.task.join(',')],
    ['length', options.length.join(',')],
    ['samples', options.samples],
    ['queries', options.queries],
    ['seed', options.seed],
    ['format', options.format],
    ['questions', options.questions],
    ['text', options.text && basename(options.text)],
    ['kv-type', options.kvType && kvTypeText(options.kvType)],
  ];
  const given = flags.flatMap(([name, value]) => (value === undefined ? [] : [`--${name} ${value}`]));
  return `${given.join(' ')}${options.generate ? ' --generate' : ''}`;
}

function parseNames(text: string): string[] {
  const names = [...new Set(text.split(',').map((name) => name.trim()))];
  try {
    tasksNamed(
      names.filter((name) => name !== plantedTask),
      'known without its text',
    );
  } catch (error) {
    if (error instanceof Error) throw new InvalidArgumentError(`${error.message}.`);
    throw error;
  }
  return names;
}

function parseLengths(text: string): number[] {
  const parse = wholeNumber(64, 2 ** 24);
  return [...new Set(text.split(',').map((part) => parse(part.trim())))].sort((a, b) => a - b);
}
