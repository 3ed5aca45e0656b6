import { exitCodes } from './exit-codes.js';
import type { CliIo, StopSignal } from './io.js';
import { Output } from './output.js';
import { Progress } from './progress.js';

/** What a command works with beside its options: one per run of the program. */
export class Context {
  readonly io: CliIo;
  readonly out: Output;
  /** On standard error. */
  readonly progress: Progress;
  /** Bold and the like on standard output. */
  readonly color: boolean;
  readonly #controller = new AbortController();
  readonly #releaseSignals: () => void;
  readonly #ignoreErrors = (): void => undefined;
  #handler: ((signal: StopSignal) => void) | undefined;
  #stopped: StopSignal | undefined;

  constructor(io: CliIo) {
    this.io = io;
    this.progress = new Progress(io.stderr);
    this.color = io.stdout.isTTY === true && !io.env.NO_COLOR && io.env.TERM !== 'dumb';
    this.out = new Output(io.stdout, () => {
      this.#controller.abort();
    });
    // Nothing is lost when nobody reads progress and statistics.
    io.stderr.on('error', this.#ignoreErrors);
    this.#releaseSignals = io.onStopSignal((signal) => {
      if (this.#handler) this.#handler(signal);
      else this.stop(signal);
    });
  }

  /** Fires on Ctrl-C, on SIGTERM, and when nobody reads the output any more. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** The exit code of a run that was stopped from outside; undefined when it was not. */
  get stopCode(): number | undefined {
    if (this.#stopped) return exitCodes[this.#stopped];
    return this.out.failure?.code === 'BROKEN_PIPE' ? exitCodes.brokenPipe : undefined;
  }

  /** Stops what runs; asked a second time, ends the process. */
  readonly stop = (signal: StopSignal): void => {
    if (this.#stopped) this.io.exit(exitCodes[this.#stopped]);
    this.#stopped = signal;
    this.#controller.abort();
  };

  /** Hands stop signals to `handler` instead of {@link stop}, until called with undefined. */
  onStop(handler: ((signal: StopSignal) => void) | undefined): void {
    this.#handler = handler;
  }

  /** A line for the user that is not output: progress, statistics, warnings. */
  readonly note = (text: string): void => {
    this.io.stderr.write(`${text}\n`);
  };

  readonly bold = (text: string): string => (this.color ? `\u001B[1m${text}\u001B[22m` : text);

  release(): void {
    this.#releaseSignals();
    this.out.release();
    this.io.stderr.off('error', this.#ignoreErrors);
  }
}
