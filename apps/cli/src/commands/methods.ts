import { kvMethods } from '@filigree/kv-cache';
import { attentionMethods, type MethodOptions } from '@filigree/sparse-attention';
import { table } from '../format/table.js';
import type { AddCommand } from './command.js';

/** What both catalogues say of a method. */
interface ListedMethod {
  readonly id: string;
  readonly title: string;
  readonly paper: string;
  readonly phase: 'prefill' | 'decode' | 'both';
  readonly training: string;
  readonly options: MethodOptions;
}

export const addMethods: AddCommand = (program, run) => {
  program
    .command('methods')
    .description(
      'list the methods: of sparse attention, for --prefill-attention and --decode-attention, and of the cache, for --kv',
    )
    .option('--json', 'print one JSON array')
    .action((options: { json?: true }) =>
      run(async ({ out, bold }) => {
        if (options.json) {
          await out.json([...listed('attention', attentionMethods), ...listed('kv', kvMethods)]);
          return undefined;
        }
        await out.line(`Sparse attention\n${methodTable(attentionMethods, bold)}`);
        await out.line(`\nThe cache\n${methodTable(kvMethods, bold)}`);
        return undefined;
      }),
    );
};

function listed(kind: string, methods: readonly ListedMethod[]): (ListedMethod & { readonly kind: string })[] {
  return methods.map(({ id, title, paper, phase, training, options }) => ({
    kind,
    id,
    title,
    paper,
    phase,
    training,
    options,
  }));
}

function methodTable(methods: readonly ListedMethod[], bold: (text: string) => string): string {
  const rows = methods.map((method) => [
    method.id,
    method.title,
    method.phase === 'both' ? 'prefill, decode' : method.phase,
    method.training,
    Object.entries(method.options)
      .map(([name, value]) => `${name}=${value}`)
      .join(','),
    method.paper,
  ]);
  return table(['method', 'title', 'phase', 'training', 'options', 'paper'], rows, bold);
}
