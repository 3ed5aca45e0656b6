import { Command } from 'commander';
import { addCalibrate } from './commands/calibrate.js';
import { addChat } from './commands/chat.js';
import { addDemoPrompt } from './commands/demo-prompt.js';
import { addDemo } from './commands/demo.js';
import { addEval } from './commands/eval.js';
import { addGenerate } from './commands/generate.js';
import { addInspect } from './commands/inspect.js';
import { addKvTypes } from './commands/kv-types.js';
import { addMethods } from './commands/methods.js';
import { addModels } from './commands/models.js';
import { addProbeWebGpu } from './commands/probe-webgpu.js';
import { addQuantize } from './commands/quantize.js';
import type { Action, AddCommand } from './commands/command.js';
import type { CliIo } from './io.js';
import { packageVersion } from './package-files.js';

const commands: readonly AddCommand[] = [
  addGenerate,
  addChat,
  addInspect,
  addQuantize,
  addEval,
  addModels,
  addMethods,
  addCalibrate,
  addKvTypes,
  addDemo,
  addDemoPrompt,
  addProbeWebGpu,
];

/** The command line. Wrong arguments, help and version throw CommanderError; messages are written by whoever catches it. */
export function createProgram(io: CliIo, run: (action: Action) => Promise<void>): Command {
  const program = new Command('filigree')
    .description('Run, inspect and measure sparse language models.')
    .version(packageVersion(), '-V, --version', 'print the version')
    .helpOption('-h, --help', 'explain a command and its options')
    .helpCommand(false)
    .exitOverride()
    .configureHelp({ helpWidth: Math.min(io.stdout.columns ?? 100, 100), showGlobalOptions: false })
    .configureOutput({
      writeOut: (text) => io.stdout.write(text),
      writeErr: (text) => io.stderr.write(text),
      // One line, written by reportError.
      outputError: () => undefined,
    });
  for (const add of commands) add(program, run);
  return program;
}
