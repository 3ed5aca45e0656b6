import { Context } from './context.js';
import { exitCodes } from './exit-codes.js';
import { processIo, type CliIo } from './io.js';
import { createProgram } from './program.js';
import { reportError } from './report-error.js';

/**
 * Runs one command line and resolves with its exit code: 0 done, 1 failed, 2 wrong arguments, 130 interrupted, 141 nobody reads the
 * output, 143 terminated.
 */
export async function main(argv: readonly string[], io: CliIo = processIo()): Promise<number> {
  const context = new Context(io);
  let code: number = exitCodes.ok;
  try {
    const program = createProgram(io, async (action) => {
      code = (await action(context)) ?? exitCodes.ok;
    });
    await program.parseAsync([...argv], { from: 'user' });
    await context.out.finish();
    if (context.out.failure) throw context.out.failure;
    return context.stopCode ?? code;
  } catch (error) {
    context.progress.stop();
    if (context.stopCode !== undefined && context.signal.aborted) return context.stopCode;
    return reportError(error, io);
  } finally {
    context.release();
  }
}
