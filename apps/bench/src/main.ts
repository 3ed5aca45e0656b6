import { defaultThreads } from '@filigree/backend-native';
import { Command, CommanderError, InvalidArgumentError } from 'commander';
import { availableParallelism, loadavg } from 'node:os';
import { plotPath, writePlot } from './plot/write-plot.js';
import type { BenchRecord } from './record.js';
import { suites } from './suites/catalogue.js';
import { formatTable } from './table.js';

interface Flags {
  readonly json: boolean;
  readonly svg?: string;
  readonly threads?: number;
  readonly rounds: number;
  readonly model: readonly string[];
  readonly context: readonly number[];
  readonly type: readonly string[];
  readonly llamaBin?: string;
}

function positiveInteger(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) throw new InvalidArgumentError('it takes a whole number from 1.');
  return value;
}

function listSuites(): string {
  const width = Math.max(...suites.map(({ id }) => id.length));
  return suites.map(({ id, title }) => `  ${id.padEnd(width)}  ${title}`).join('\n');
}

function createCommand(): Command {
  return new Command('bench')
    .description(`Measures ours beside its peers in one run and prints the ratios.\n\nSuites:\n${listSuites()}`)
    .argument('[suite]', 'what to measure; without it the suites are listed')
    .option('--json', 'print the records as JSON', false)
    .option('--svg <path>', 'write a plot: to this .svg file, or as <suite>.svg into this folder')
    .option('--threads <n>', 'threads of ours and of the peers', positiveInteger)
    .option('--rounds <n>', 'rounds of which medians are taken', positiveInteger, 5)
    .option('--model <id>', 'only this model of the suite (may be repeated)', (id, ids: string[]) => [...ids, id], [])
    .option(
      '--context <n>',
      'only this context of the suite (may be repeated)',
      (n, all: number[]) => [...all, positiveInteger(n)],
      [],
    )
    .option(
      '--type <type>',
      'only this weight type of the suite (may be repeated)',
      (type, all: string[]) => [...all, type],
      [],
    )
    .option('--llama-bin <folder>', "folder of llama.cpp's programs; without it they are built into .cache/peers/llama")
    .exitOverride();
}

/** Programs whose threads wait for each other in loops, llama.cpp among them, collapse on a busy machine: its ratios flatter us. */
function warnWhenBusy(): void {
  const [load] = loadavg();
  if (load > 0.5 * availableParallelism())
    console.error(`bench: the machine is busy (load ${load.toFixed(1)}); these figures say little, least of all the ratios`);
}

/** The command line; resolves with the exit code. Missing a goal is a result, not an error. */
export async function main(argv: readonly string[]): Promise<number> {
  const command = createCommand();
  try {
    command.parse(argv, { from: 'user' });
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode;
    throw error;
  }
  const flags = command.opts<Flags>();
  if (command.args.length === 0) {
    console.log(listSuites());
    return 0;
  }
  const suite = suites.find(({ id }) => id === command.args.at(0));
  if (!suite) {
    console.error(`bench: there is no suite "${command.args.at(0) ?? ''}"; there are ${suites.map(({ id }) => id).join(', ')}`);
    return 1;
  }
  warnWhenBusy();
  let records: BenchRecord[];
  try {
    records = await suite.run({
      threads: flags.threads ?? defaultThreads(),
      rounds: flags.rounds,
      models: flags.model,
      contexts: flags.context,
      types: flags.type,
      llamaBin: flags.llamaBin,
      progress: (message) => console.error(`bench ${suite.id}: ${message}`),
    });
  } catch (error) {
    console.error(`bench ${suite.id}: ${error instanceof Error ? error.message : String(error)}`);
    return 1;
  }
  console.log(flags.json ? JSON.stringify(records, null, 2) : formatTable(records));
  if (flags.svg !== undefined) {
    // Loaded only here: measurements run in processes of this same program, some of them of its memory.
    const { renderSvg } = await import('./plot/render-svg.js');
    const path = plotPath(flags.svg, suite.id);
    writePlot(path, renderSvg(suite.title, records));
    console.error(`bench ${suite.id}: wrote ${path}`);
  }
  return 0;
}
