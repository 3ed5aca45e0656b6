import { fromArray, keep, narrow, type Backend, type Tensor } from '@filigree/core-tensor';
import type { Stream } from './stream.js';

/** Pages a row of the table grows by, so that its shape seldom changes. */
const tableStep = 32;

/** Page tables of streams on the device, i32 [streams, width], and their rows per layer. */
export class StreamTables {
  #table: { readonly tensor: Tensor; readonly width: number } | undefined;
  #stale = false;
  readonly #layers = new Map<number, Tensor>();

  constructor(
    private readonly backend: Backend,
    private readonly streams: readonly Stream[],
    private readonly kvHeads: number,
  ) {}

  get bytes(): number {
    return this.#table?.tensor.bytes ?? 0;
  }

  /** Pages of some stream are others now. */
  changed(): void {
    this.#stale = true;
  }

  whole(): Tensor {
    const most = Math.max(1, ...this.streams.map(({ pages }) => pages.length));
    if (this.#table && most <= this.#table.width && !this.#stale) return this.#table.tensor;
    const width = Math.max(this.#table?.width ?? 0, Math.ceil(most / tableStep) * tableStep);
    // Unused places hold page 0, which no length reaches.
    const numbers = new Int32Array(this.streams.length * width);
    for (const [index, { pages }] of this.streams.entries()) numbers.set(pages, index * width);
    this.#stale = false;
    if (this.#table?.width === width) {
      this.backend.write(this.#table.tensor.storage, 0, new Uint8Array(numbers.buffer));
      return this.#table.tensor;
    }
    this.dispose();
    const tensor = keep(fromArray(this.backend, numbers, [this.streams.length, width], 'i32'));
    this.#table = { tensor, width };
    return tensor;
  }

  /** Rows of one layer, [Hk, width]. */
  layer(layer: number): Tensor {
    const table = this.whole();
    const rows = this.#layers.get(layer) ?? keep(narrow(table, layer * this.kvHeads, this.kvHeads));
    this.#layers.set(layer, rows);
    return rows;
  }

  dispose(): void {
    for (const rows of this.#layers.values()) rows.dispose();
    this.#layers.clear();
    this.#table?.tensor.dispose();
    this.#table = undefined;
  }
}
