import { FiligreeError } from '@filigree/core-tensor';
import { CommanderError } from 'commander';
import { BrokenPipeError, UsageError } from './errors.js';
import { exitCodes } from './exit-codes.js';
import type { CliIo } from './io.js';

/** Writes what went wrong to standard error and returns the exit code. `FILIGREE_DEBUG=1` adds the stack. */
export function reportError(error: unknown, io: Pick<CliIo, 'stderr' | 'env'>): number {
  if (error instanceof CommanderError) return commanderCode(error, io);
  if (error instanceof BrokenPipeError) return exitCodes.brokenPipe;
  const usage = error instanceof UsageError;
  io.stderr.write(`filigree: ${usage ? error.message : describe(error)}\n`);
  if (io.env.FILIGREE_DEBUG === '1' && error instanceof Error) io.stderr.write(`${String(error.stack)}\n`);
  return usage ? exitCodes.usage : exitCodes.failed;
}

/** Help and version end through an error as well; wrong arguments get one line. */
function commanderCode(error: CommanderError, io: Pick<CliIo, 'stderr'>): number {
  if (error.exitCode === 0) return exitCodes.ok;
  // No command was named: the help has been written.
  if (error.code !== 'commander.help')
    io.stderr.write(`filigree: ${error.message.replace(/^error: /, '').replaceAll(/\s*\n\s*/g, ' ')}\n`);
  return exitCodes.usage;
}

function describe(error: unknown): string {
  if (error instanceof FiligreeError) return `${error.code}: ${error.message}`;
  if (error instanceof Error && 'code' in error && typeof error.code === 'string')
    return error.message.startsWith(error.code) ? error.message : `${error.code}: ${error.message}`;
  return `internal error: ${error instanceof Error ? error.message : String(error)} (FILIGREE_DEBUG=1 shows where)`;
}
