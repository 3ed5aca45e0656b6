import { ExecutionError, type UniformWord } from '@filigree/core-tensor';
import { usage } from './flags.js';

/** Bytes of one block: the largest offset alignment a device may ask for, and more than any op needs. */
export const blockBytes = 256;
/** Blocks of one batch, more than a decode step of 80 layers takes; a batch is handed over when they are used up. */
export const blocksPerBatch = 2048;

/**
 * The uniform blocks of one batch, written to the device in one piece before the batch is submitted. The queue runs writes and batches in
 * order, so the next batch may use the same bytes.
 */
export class UniformRing {
  readonly buffer: GPUBuffer;
  readonly #bytes = new ArrayBuffer(blockBytes * blocksPerBatch);
  readonly #view = new DataView(this.#bytes);
  #used = 0;

  constructor(private readonly device: GPUDevice) {
    this.buffer = device.createBuffer({
      label: 'filigree uniforms',
      size: blockBytes * blocksPerBatch,
      usage: usage.uniform | usage.copyTarget,
    });
  }

  get full(): boolean {
    return this.#used === blocksPerBatch;
  }

  /** Puts binding offsets, then `words` from the next multiple of four on; returns the block's byte offset. */
  put(op: string, offsets: readonly number[], words: readonly UniformWord[]): number {
    const start = this.#used * blockBytes;
    const first = Math.ceil(offsets.length / 4) * 4;
    if (4 * (first + words.length) > blockBytes) {
      throw new ExecutionError(
        `${op}: its uniform block has ${4 * (first + words.length)} bytes, at most ${blockBytes} are supported`,
      );
    }
    for (const [index, offset] of offsets.entries()) this.#view.setUint32(start + 4 * index, offset, true);
    for (const [index, { type, value }] of words.entries()) {
      const at = start + 4 * (first + index);
      if (type === 'f32') this.#view.setFloat32(at, value, true);
      else if (type === 'i32') this.#view.setInt32(at, value, true);
      else this.#view.setUint32(at, value, true);
    }
    this.#used++;
    return start;
  }

  /** The contents of a block that was put since the last upload. */
  copy(block: number): Uint8Array {
    return new Uint8Array(this.#bytes.slice(block, block + blockBytes));
  }

  /** Hands the blocks to the queue and starts over. */
  upload(): void {
    if (this.#used > 0) this.device.queue.writeBuffer(this.buffer, 0, this.#bytes, 0, this.#used * blockBytes);
    this.#used = 0;
  }

  dispose(): void {
    this.buffer.destroy();
  }
}
