import { readInspection } from '../inspect/read-inspection.js';
import { inspectionJson, metadataTable, partsText, summaryText, tensorsTable, typesText } from '../inspect/print-inspection.js';
import { downloadProgress } from '../progress.js';
import type { AddCommand } from './command.js';

interface InspectOptions {
  readonly summary?: true;
  readonly full?: true;
  readonly json?: true;
}

export const addInspect: AddCommand = (program, run) => {
  program
    .command('inspect')
    .description('show what is in a GGUF or safetensors file: types, sizes, metadata, tensors. Reads the header only.')
    .argument('<file>', 'a file, a folder with model.safetensors, an http(s) address, or the name of a model')
    .option('--summary', 'no list of metadata and tensors')
    .option('--full', 'metadata values at full length')
    .option('--json', 'print one JSON object')
    .action((file: string, options: InspectOptions) =>
      run(async ({ out, bold, signal, progress }) => {
        const inspection = await readInspection(file, { signal, onProgress: downloadProgress(progress) });
        progress.stop();
        const full = options.full === true;
        if (options.json) {
          await out.json(inspectionJson(inspection, full));
          return undefined;
        }
        await out.line(summaryText(inspection));
        if (inspection.tensors.length > 0) await out.line(`\n${typesText(inspection, bold)}`);
        const parts = partsText(inspection, bold);
        if (parts !== undefined) await out.line(`\n${parts}`);
        if (options.summary) return undefined;
        if (inspection.metadata.size > 0) await out.line(`\n${metadataTable(inspection, full, bold)}`);
        if (inspection.tensors.length > 0) await out.line(`\n${tensorsTable(inspection, bold)}`);
        return undefined;
      }),
    );
};
