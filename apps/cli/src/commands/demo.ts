import { resolveModel } from '@filigree/checkpoint';
import { answer, type Answer } from '../answer.js';
import type { Context } from '../context.js';
import { demoRows, demoTable } from '../demo/demo-table.js';
import { promptLength } from '../demo/measure-prompt.js';
import type { PromptRun } from '../demo/prompt-run.js';
import { runApart } from '../run-apart.js';
import { statsJson, statsLine } from '../format/stats.js';
import { withModel } from '../open-model.js';
import { threadsOption } from '../options/model-options.js';
import { downloadProgress } from '../progress.js';
import type { AddCommand } from './command.js';

interface Options {
  readonly model: string;
  readonly question: string;
  readonly threads?: number;
  readonly json?: true;
}

const sourceNames = {
  path: 'the path given',
  cache: 'downloaded before',
  hub: 'from the Hugging Face Hub',
  pip: 'from a Python package',
} as const;
const defaultModel = 'smollm2-135m-instruct';
const defaultQuestion = 'Why is the sky blue? Answer in two sentences.';
/** What the table compares, the dense one first. */
const attentions = [
  ['dense', 'dense'],
  ['sinks + sliding window', 'streaming-llm:sinks=4,window=512'],
] as const;

export const addDemo: AddCommand = (program, run) => {
  program
    .command('demo')
    .description('answer a question with a small model, then read a long prompt with dense and with sparse attention')
    .option('-m, --model <source>', 'another model: a path, "owner/name[:file]" on the Hub, or a known id', defaultModel)
    .option('--question <text>', 'another question', defaultQuestion)
    .addOption(threadsOption())
    .option('--json', 'print one JSON object')
    .action((options: Options) => run((context) => demo(options, context)));
};

async function demo(options: Options, context: Context): Promise<undefined> {
  const { out, note, signal, bold, progress } = context;
  const { path, source } = await resolveModel(options.model, { signal, onProgress: downloadProgress(progress) });
  progress.stop();
  note(`Model: ${path} (${sourceNames[source]})\n`);
  const ours = { ...options, model: path };

  const result = await askQuestion(ours, context);
  if (!options.json) note(`${statsLine(result)}\n`);

  const runs: [string, PromptRun][] = [];
  for (const [name, method] of attentions) {
    progress.update(`read ${promptLength} tokens, ${name}`, 0, undefined);
    runs.push([name, await measureApart(ours, method, context)]);
    progress.stop();
  }
  const rows = demoRows(runs);
  if (options.json) {
    const { text, tokens, reason, stats } = result;
    await out.json({ question: options.question, answer: { text, tokens, reason, stats: statsJson(stats) }, rows });
    return undefined;
  }
  await out.line(`The same ${rows[0].promptTokens} tokens of a speech, read twice, each in a process of its own:\n`);
  await out.line(demoTable(rows, bold));
  return undefined;
}

async function askQuestion(options: Options, context: Context): Promise<Answer> {
  const { out, signal, bold } = context;
  return withModel(options, context, async (model) => {
    if (!options.json) await out.line(bold(options.question));
    const write = options.json ? () => undefined : (text: string) => out.text(text);
    const prompt = [{ role: 'user', content: options.question }] as const;
    const result = await answer(model, prompt, { maxTokens: 160, stop: [] }, context, write);
    if (!options.json) await out.line('\n');
    signal.throwIfAborted();
    return result;
  });
}

async function measureApart({ model, threads }: Options, attention: string, { io, signal }: Context): Promise<PromptRun> {
  const args = ['demo-prompt', '--model', model, '--prefill-attention', attention];
  if (threads !== undefined) args.push('--threads', String(threads));
  return (await runApart(args, io, signal)) as PromptRun;
}
