import type { Readable, Writable } from 'node:stream';

/** A stream that may be a terminal. */
export type Terminal<S> = S & { readonly isTTY?: boolean; readonly columns?: number };

/** Signals that ask the program to stop. */
export type StopSignal = 'SIGINT' | 'SIGTERM';

/** The outside of the command line, so that tests can stand in for it. */
export interface CliIo {
  readonly stdin: Terminal<Readable>;
  readonly stdout: Terminal<Writable>;
  readonly stderr: Terminal<Writable>;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** The command that runs this program again: an executable and its first arguments. */
  readonly self: readonly string[];
  /** Calls `handler` on every stop signal until the returned function is called. */
  onStopSignal(handler: (signal: StopSignal) => void): () => void;
  /** Ends the process at once: the user asked twice. */
  exit(code: number): void;
}

/** The streams and signals of this process. */
export function processIo(): CliIo {
  return {
    stdin: process.stdin,
    stdout: process.stdout,
    stderr: process.stderr,
    env: process.env,
    self: [process.execPath, ...process.execArgv, process.argv[1]],
    onStopSignal(handler) {
      const signals = ['SIGINT', 'SIGTERM'] as const;
      const handlers = signals.map((signal) => [signal, () => handler(signal)] as const);
      for (const [signal, listener] of handlers) process.on(signal, listener);
      return () => {
        for (const [signal, listener] of handlers) process.off(signal, listener);
      };
    },
    exit: (code) => process.exit(code),
  };
}
