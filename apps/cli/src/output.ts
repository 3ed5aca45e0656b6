import type { Writable } from 'node:stream';
import { BrokenPipeError, OutputError } from './errors.js';
import { printableLines } from './format/printable.js';
import type { Terminal } from './io.js';

/** Standard output that waits for slow readers and notices when nobody reads any more. */
export class Output {
  readonly #stream: Terminal<Writable>;
  readonly #onBroken: () => void;
  #failure: BrokenPipeError | OutputError | undefined;
  readonly #listener = (error: Error): void => {
    const code = 'code' in error ? error.code : undefined;
    const closed = code === 'EPIPE' || code === 'ERR_STREAM_DESTROYED' || code === 'ERR_STREAM_WRITE_AFTER_END';
    this.#failure ??= closed ? new BrokenPipeError({ cause: error }) : new OutputError(error);
    this.#onBroken();
  };

  /** @param onBroken is called when writing has failed: what produces output should stop. */
  constructor(stream: Terminal<Writable>, onBroken: () => void) {
    this.#stream = stream;
    this.#onBroken = onBroken;
    stream.on('error', this.#listener);
  }

  /** Why nothing can be written any more. */
  get failure(): BrokenPipeError | OutputError | undefined {
    return this.#failure;
  }

  /** Resolves when there is room for more. */
  async write(text: string): Promise<void> {
    this.#throwIfFailed();
    if (this.#stream.write(text)) return;
    await new Promise<void>((resolve) => {
      const settle = (): void => {
        this.#stream.off('drain', settle);
        this.#stream.off('error', settle);
        resolve();
      };
      this.#stream.on('drain', settle);
      this.#stream.on('error', settle);
    });
    this.#throwIfFailed();
  }

  /** Text that a model made: as it is, but on a terminal without what would control it. */
  text(text: string): Promise<void> {
    return this.write(this.#stream.isTTY ? printableLines(text) : text);
  }

  async line(text = ''): Promise<void> {
    await this.write(`${text}\n`);
  }

  async json(value: unknown): Promise<void> {
    await this.line(JSON.stringify(value));
  }

  /** Resolves when everything written has been handed over. */
  async finish(): Promise<void> {
    if (!this.#failure) {
      await new Promise<void>((resolve) => {
        this.#stream.write('', () => {
          resolve();
        });
      });
    }
  }

  /** Leaves the stream as it was found. */
  release(): void {
    this.#stream.off('error', this.#listener);
  }

  #throwIfFailed(): void {
    if (this.#failure) throw this.#failure;
  }
}
