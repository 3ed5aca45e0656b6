import { Option } from 'commander';
import { measurePrompt } from '../demo/measure-prompt.js';
import { withModel } from '../open-model.js';
import { parseAttention, type AttentionChoice } from '../options/attention.js';
import { threadsOption } from '../options/model-options.js';
import type { AddCommand } from './command.js';

interface Options {
  readonly model: string;
  readonly threads?: number;
  readonly prefillAttention?: AttentionChoice;
}

/** One row of the demo's table, measured in a process of its own. Hidden: `demo` runs it. */
export const addDemoPrompt: AddCommand = (program, run) => {
  program
    .command('demo-prompt', { hidden: true })
    .requiredOption('--model <source>', 'as of generate')
    .addOption(threadsOption())
    .addOption(new Option('--prefill-attention <method>', 'as of generate').argParser(parseAttention('prefill')))
    .action((options: Options) =>
      run(async (context) =>
        withModel(options, context, async (model) => {
          await context.out.json(await measurePrompt(model, options.prefillAttention, context.signal));
          return undefined;
        }),
      ),
    );
};
