import type { OnDownloadProgress } from '@filigree/checkpoint';
import { SingleBar } from 'cli-progress';
import type { Writable } from 'node:stream';
import { bytes } from './format/numbers.js';
import type { Terminal } from './io.js';

/** Work that takes less than this shows no progress. */
const patienceMs = 1000;

/** What a bar counts. */
export type ProgressUnit = 'bytes' | 'tokens' | 'contexts' | 'layers';

/**
 * Progress of one piece of work at a time, on standard error, once it has taken longer than a second: a bar on a terminal, one line
 * elsewhere.
 */
export class Progress {
  readonly #stream: Terminal<Writable>;
  #label = '';
  #startedAt = 0;
  #bar: SingleBar | undefined;
  #announced = false;
  #timer: NodeJS.Timeout | undefined;
  #done = 0;
  #total: number | undefined;
  #unit: ProgressUnit = 'bytes';

  constructor(stream: Terminal<Writable>) {
    this.#stream = stream;
  }

  /** Reports that `done` of `total` is done; a new label begins new work. The total is left out while it is not known. */
  update(label: string, done: number, total: number | undefined, unit: ProgressUnit = 'bytes'): void {
    if (label !== this.#label) {
      this.stop();
      this.#label = label;
      this.#startedAt = performance.now();
      this.#timer = setTimeout(() => {
        this.#show();
      }, patienceMs);
      this.#timer.unref();
    }
    this.#done = done;
    this.#total = total;
    this.#unit = unit;
    if (performance.now() - this.#startedAt >= patienceMs) this.#show();
  }

  /** The work has ended, one way or the other: the bar goes away. */
  stop(): void {
    clearTimeout(this.#timer);
    this.#bar?.stop();
    this.#bar = undefined;
    this.#announced = false;
    this.#label = '';
  }

  #show(): void {
    clearTimeout(this.#timer);
    if (this.#stream.isTTY !== true) {
      if (!this.#announced) this.#stream.write(`${this.#label}${this.#size()} …\n`);
      this.#announced = true;
      return;
    }
    const payload = { size: this.#count() };
    const total = this.#total ?? 0;
    if (this.#bar) {
      this.#bar.setTotal(total);
      this.#bar.update(Math.min(this.#done, total), payload);
      return;
    }
    const format = this.#total === undefined ? `${this.#label} … {size}` : `${this.#label} {bar} {percentage}% {size}`;
    this.#bar = new SingleBar({
      stream: this.#stream,
      format,
      hideCursor: true,
      clearOnComplete: true,
      barsize: 24,
      fps: 8,
      barCompleteChar: '█',
      barIncompleteChar: '░',
    });
    this.#bar.start(total, Math.min(this.#done, total), payload);
  }

  #count(): string {
    if (this.#total === undefined && this.#done === 0) return '';
    const show = (count: number): string => (this.#unit === 'bytes' ? bytes(count) : String(count));
    const done = this.#total === undefined ? show(this.#done) : `${show(this.#done)} of ${show(this.#total)}`;
    return this.#unit === 'bytes' ? done : `${done} ${this.#unit}`;
  }

  #size(): string {
    if (this.#total === undefined) return '';
    return this.#unit === 'bytes' ? ` (${bytes(this.#total)})` : ` (${this.#total} ${this.#unit})`;
  }
}

/** Shows downloads, their verification and unpacking. */
export function downloadProgress(progress: Progress): OnDownloadProgress {
  return ({ phase, file, doneBytes, totalBytes }) => {
    progress.update(`${phase} ${file}`, doneBytes, totalBytes);
  };
}
