import { attentionMethods } from '@filigree/sparse-attention';
import { table } from '../format/table.js';
import type { AddCommand } from './command.js';

export const addMethods: AddCommand = (program, run) => {
  program
    .command('methods')
    .description('list the methods of sparse attention, for --prefill-attention and --decode-attention')
    .option('--json', 'print one JSON array')
    .action((options: { json?: true }) =>
      run(async ({ out, bold }) => {
        if (options.json) {
          await out.json(
            attentionMethods.map(({ id, title, paper, phase, training, options: defaults }) => ({
              id,
              title,
              paper,
              phase,
              training,
              options: defaults,
            })),
          );
          return undefined;
        }
        const rows = attentionMethods.map((method) => [
          method.id,
          method.title,
          method.phase === 'both' ? 'prefill, decode' : method.phase,
          method.training,
          Object.entries(method.options)
            .map(([name, value]) => `${name}=${value}`)
            .join(','),
          method.paper,
        ]);
        await out.line(table(['method', 'title', 'phase', 'training', 'options', 'paper'], rows, bold));
        return undefined;
      }),
    );
};
