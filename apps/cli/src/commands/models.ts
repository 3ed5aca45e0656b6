import { cacheDirectory, knownModels, listCached } from '@filigree/checkpoint';
import { bytes } from '../format/numbers.js';
import { printable } from '../format/printable.js';
import { table } from '../format/table.js';
import type { AddCommand } from './command.js';

export const addModels: AddCommand = (program, run) => {
  program
    .command('models')
    .description('list the downloaded models, and those known by a short name')
    .option('--json', 'print one JSON object')
    .action((options: { json?: true }) =>
      run(async ({ out, bold, io }) => {
        const directory = cacheDirectory(io.env);
        const cached = await listCached(directory);
        if (options.json) {
          await out.json({
            directory,
            cached: cached.map((file) => ({ ...file, modified: file.modified.toISOString() })),
            known: knownModels.map(({ id, title, bytes: size, hub, pip }) => ({ id, title, bytes: size, hub, pip })),
          });
          return undefined;
        }
        const rows = cached.map(({ from, file, source, bytes: size, revision, path }) =>
          [`${from}:${file}`, bytes(size), source, revision ?? '', path].map(printable),
        );
        const total = cached.reduce((sum, file) => sum + file.bytes, 0);
        await out.line(`${directory}: ${cached.length === 1 ? '1 file' : `${cached.length} files`}, ${bytes(total)}`);
        if (rows.length > 0)
          await out.line(table(['model', { title: 'size', right: true }, 'source', 'revision', 'path'], rows, bold));
        const known = knownModels.map(({ id, title, bytes: size, hub }) => [id, bytes(size), title, `${hub.repo}:${hub.file}`]);
        await out.line(`\n${table(['known id', { title: 'size', right: true }, 'title', 'Hub'], known, bold)}`);
        return undefined;
      }),
    );
};
