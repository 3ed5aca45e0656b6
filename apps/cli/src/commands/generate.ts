import { answer } from '../answer.js';
import { chatMessages } from '../chat/messages.js';
import { UsageError } from '../errors.js';
import { statsJson, statsLine } from '../format/stats.js';
import type { CliIo } from '../io.js';
import { withModel } from '../open-model.js';
import { addGenerationOptions, addModelOptions, type GenerationOptions, type ModelOptions } from '../options/model-options.js';
import { readText } from '../read-text.js';
import type { AddCommand } from './command.js';

interface Options extends ModelOptions, GenerationOptions {
  readonly prompt?: string;
  readonly chat?: true;
  readonly system?: string;
  readonly json?: true;
  readonly stats: boolean;
}

export const addGenerate: AddCommand = (program, run) => {
  const command = program
    .command('generate')
    .description('continue a prompt. Text goes to standard output, progress and statistics to standard error.')
    .option('-p, --prompt <text>', 'the prompt; without it, or as "-", standard input');
  addModelOptions(command);
  addGenerationOptions(command, 256)
    .option('--chat', "put the prompt into the model's chat template, as a user's message")
    .option('--system <text>', 'a system message before it; implies --chat')
    .option('--no-stats', 'no statistics after the text')
    .option('--json', 'print one JSON object instead of the text')
    .action((options: Options) =>
      run(async (context) => {
        const { io, out, signal, note } = context;
        const text = await promptText(options.prompt, io, signal);
        const chat = options.chat === true || options.system !== undefined;
        const prompt = chat ? chatMessages(options.system, [{ role: 'user', content: text }]) : text;
        return withModel(options, context, async (model) => {
          const write = options.json ? () => undefined : (part: string) => out.text(part);
          const result = await answer(model, prompt, options, context, write);
          if (options.json) {
            const { tokens, reason, stats } = result;
            await out.json({ text: result.text, tokens, reason, stats: statsJson(stats) });
            return undefined;
          }
          // A terminal's next prompt begins on a line of its own; a pipe gets the text as it is, and one line end.
          await out.line();
          if (options.stats) note(statsLine(result));
          return undefined;
        });
      }),
    );
};

async function promptText(prompt: string | undefined, io: CliIo, signal: AbortSignal): Promise<string> {
  if (prompt !== undefined && prompt !== '-') return prompt;
  if (prompt === undefined && io.stdin.isTTY)
    throw new UsageError("required option '-p, --prompt <text>' not specified, and nothing comes in on standard input");
  return readText(io.stdin, 'standard input', signal);
}
