import { bufferSize } from './buffer-pool.js';
import { mapModeRead, usage } from './flags.js';

/** Free staging buffers kept. */
const kept = 8;

/** Mappable buffers through which results come to the host. */
export class Readback {
  readonly #free: GPUBuffer[] = [];

  constructor(private readonly device: GPUDevice) {}

  /** A mappable buffer of at least `bytes`. */
  take(bytes: number): GPUBuffer {
    const size = bufferSize(bytes);
    const found = this.#free.findIndex((buffer) => buffer.size === size);
    if (found >= 0) return this.#free.splice(found, 1)[0];
    return this.device.createBuffer({ label: 'filigree read', size, usage: usage.mapRead | usage.copyTarget });
  }

  /** Waits for the copy into `staging` and returns its bytes `skip … skip + bytes`. */
  async bytes(staging: GPUBuffer, skip: number, bytes: number): Promise<Uint8Array> {
    await staging.mapAsync(mapModeRead, 0, Math.ceil((skip + bytes) / 4) * 4);
    const copy = new Uint8Array(bytes);
    copy.set(new Uint8Array(staging.getMappedRange(0, Math.ceil((skip + bytes) / 4) * 4), skip, bytes));
    staging.unmap();
    this.#free.push(staging);
    if (this.#free.length > kept) this.#free.shift()?.destroy();
    return copy;
  }

  dispose(): void {
    for (const buffer of this.#free) buffer.destroy();
    this.#free.length = 0;
  }
}
