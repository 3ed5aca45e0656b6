import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import type { Terminal } from '../io.js';

/** Ctrl-C was pressed at the prompt. */
export const interrupted = Symbol('interrupted');

/** Lines of a conversation: typed at a prompt, or read from a pipe. */
export interface LineReader {
  /** The next line; undefined at the end of the input. */
  next(): Promise<string | typeof interrupted | undefined>;
  close(): void;
}

/**
 * Lines from a terminal, with editing and history. Between two lines the terminal is as the shell left it, so that Ctrl-C is a signal while an
 * answer runs.
 */
export function terminalLines(input: Readable, output: Terminal<Writable>, prompt: string): LineReader {
  let history: string[] = [];
  /** Lines pasted at once, and the beginning of one that has no end yet. */
  const waiting: string[] = [];
  let begun = '';
  return {
    next() {
      const pasted = waiting.shift();
      if (pasted !== undefined) {
        output.write(`${prompt}${pasted}\n`);
        return Promise.resolve(pasted);
      }
      const reader = createInterface({ input, output, terminal: true, prompt, history: [...history], historySize: 200 });
      return new Promise((resolve) => {
        let stopped = false;
        reader.on('history', (lines: string[]) => (history = lines));
        reader.on('line', (line) => {
          // What else the terminal has sent comes before the interface is closed, which would drop it.
          if (waiting.push(line) > 1) return;
          setImmediate(() => {
            begun = reader.line;
            reader.close();
          });
        });
        reader.on('SIGINT', () => {
          stopped = true;
          reader.close();
        });
        reader.on('close', () => {
          // Ctrl-C and Ctrl-D leave the cursor behind the prompt.
          if (waiting.length === 0) output.write('\n');
          resolve(stopped ? interrupted : waiting.shift());
        });
        reader.prompt();
        if (begun !== '') reader.write(begun);
        begun = '';
      });
    },
    close() {
      input.pause();
    },
  };
}

/** Lines of a stream, until it ends or the signal fires. */
export function streamLines(input: Readable, signal: AbortSignal): LineReader {
  const reader = createInterface({ input, crlfDelay: Infinity, signal });
  const lines = reader[Symbol.asyncIterator]();
  return {
    async next() {
      const { done, value } = await lines.next();
      return done ? undefined : value;
    },
    close() {
      reader.close();
      input.pause();
    },
  };
}
