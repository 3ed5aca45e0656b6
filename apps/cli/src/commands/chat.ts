import { ChatTemplateError, PromptCache, type Model } from '@filigree/transformer';
import { ChatSession } from '../chat/chat-session.js';
import { Conversation } from '../chat/conversation.js';
import { streamLines, terminalLines } from '../chat/line-reader.js';
import { withModel } from '../open-model.js';
import { addGenerationOptions, addModelOptions, type GenerationOptions, type ModelOptions } from '../options/model-options.js';
import type { AddCommand } from './command.js';

interface Options extends ModelOptions, GenerationOptions {
  readonly system?: string;
  readonly json?: true;
  readonly stats: boolean;
}

export const addChat: AddCommand = (program, run) => {
  const command = program
    .command('chat')
    .description('talk with a model; /help lists what can be typed. From a pipe, every line is a message.');
  addModelOptions(command);
  addGenerationOptions(command, 1024)
    .option('--system <text>', 'the system message')
    .option('--no-stats', 'no statistics after answers')
    .option('--json', 'print one JSON object for each answer, one a line')
    .action((options: Options) =>
      run(async (context) => {
        const { io, signal } = context;
        const interactive = io.stdin.isTTY === true;
        await withModel(options, context, async (model) => {
          if (!model.chatTemplate)
            throw new ChatTemplateError(
              `${options.model} has no chat template; use "filigree generate" to continue plain text`,
            );
          // The prompt is no output: where that goes to a file, it is shown on standard error.
          const screen = io.stdout.isTTY && !options.json ? io.stdout : io.stderr;
          const lines = interactive ? terminalLines(io.stdin, screen, '> ') : streamLines(io.stdin, signal);
          const promptCache = promptCacheOf(model, options);
          const conversation = new Conversation(model, options, options.system, promptCache);
          const session = new ChatSession(context, conversation, lines, {
            interactive,
            json: options.json === true,
            stats: options.stats,
          });
          try {
            await session.run();
          } finally {
            promptCache?.dispose();
          }
        });
        return undefined;
      }),
    );
};

/** What was said stays read, where entries of one turn are those of the next: not where they depend on the prompt's end, or are codes. */
function promptCacheOf(model: Model, { kv, prefillAttention, headPlan }: Options): PromptCache | undefined {
  return kv || prefillAttention || headPlan || model.codedKv ? undefined : new PromptCache(model);
}
