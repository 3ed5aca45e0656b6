import { OutOfMemoryError, type FiligreeError } from '@filigree/core-tensor';
import { usage } from './flags.js';

/** A buffer of the device and what is known about it. */
export interface PooledBuffer {
  readonly gpu: GPUBuffer;
  readonly size: number;
  /** Unique per GPU buffer; part of bind-group keys. */
  readonly id: number;
  /** Set when the device could not make the buffer. */
  failure: FiligreeError | undefined;
  /** False until the device has said whether it could make it. */
  settled: boolean;
  /** Number of the batch that used it last. */
  usedInBatch: number;
}

/** Free buffers are kept up to this many bytes, or a quarter of the live ones where that is more. */
const pooledBytesAlways = 256 * 2 ** 20;
/** Buffers below this are assumed to be makeable; for larger ones the device is asked before work that uses them is mixed with other work. */
const settleFrom = 16 * 2 ** 20;

/** Bytes of the buffer that holds `bytes`: sizes come in steps of an eighth, so that buffers of similar tensors are shared. */
export function bufferSize(bytes: number): number {
  const step = Math.max(256, 2 ** (Math.floor(Math.log2(Math.max(1, bytes))) - 3));
  return Math.max(step, Math.ceil(bytes / step) * step);
}

/**
 * Reuses buffers in queue order: a buffer given back may be taken again at once, because whatever uses it next is queued behind what used it
 * before. Counts live bytes as asked for, and what it keeps for reuse.
 */
export class BufferPool {
  readonly #free = new Map<number, PooledBuffer[]>();
  #live = 0;
  #liveAllocated = 0;
  #peak = 0;
  #count = 0;
  #pooled = 0;
  #nextId = 1;

  constructor(
    private readonly device: GPUDevice,
    private readonly maxBufferSize: number,
  ) {}

  get liveBytes(): number {
    return this.#live;
  }

  get peakBytes(): number {
    return this.#peak;
  }

  get pooledBytes(): number {
    return this.#pooled;
  }

  get count(): number {
    return this.#count;
  }

  /** Takes a buffer of at least `bytes`. @throws OutOfMemoryError when no buffer of the device can be that large. */
  take(bytes: number): PooledBuffer {
    if (bytes > this.maxBufferSize) {
      throw new OutOfMemoryError(
        `WebGPU: a tensor of ${bytes} bytes is larger than maxBufferSize, ${this.maxBufferSize} bytes on this device; split it (${this.#live} bytes are live)`,
      );
    }
    const size = Math.min(bufferSize(bytes), Math.ceil(this.maxBufferSize / 4) * 4);
    const found = this.#free.get(size)?.pop();
    if (found) this.#pooled -= size;
    const buffer = found ?? this.#create(size);
    this.#live += bytes;
    this.#liveAllocated += size;
    this.#peak = Math.max(this.#peak, this.#live);
    this.#count++;
    return buffer;
  }

  /** Gives a buffer back that was taken for `bytes`. */
  give(buffer: PooledBuffer, bytes: number): void {
    this.#live -= bytes;
    this.#liveAllocated -= buffer.size;
    this.#count--;
    if (buffer.failure) return;
    const list = this.#free.get(buffer.size);
    if (list) list.push(buffer);
    else this.#free.set(buffer.size, [buffer]);
    this.#pooled += buffer.size;
  }

  /** Destroys what is kept beyond the allowance; only while no recorded but unsubmitted command uses a free buffer. */
  trim(): void {
    const allowed = Math.max(pooledBytesAlways, this.#liveAllocated / 4);
    for (const [size, list] of [...this.#free].sort(([a], [b]) => b - a)) {
      while (this.#pooled > allowed && list.length > 0) {
        list.shift()?.gpu.destroy();
        this.#pooled -= size;
      }
    }
  }

  /** Destroys the free buffers and forgets the live ones; their owners destroy those. */
  dispose(): void {
    for (const list of this.#free.values()) for (const { gpu } of list) gpu.destroy();
    this.#free.clear();
    this.#live = 0;
    this.#liveAllocated = 0;
    this.#pooled = 0;
    this.#count = 0;
  }

  #create(size: number): PooledBuffer {
    this.device.pushErrorScope('validation');
    this.device.pushErrorScope('out-of-memory');
    const gpu = this.device.createBuffer({ size, usage: usage.storage | usage.copySource | usage.copyTarget });
    const buffer: PooledBuffer = {
      gpu,
      size,
      id: this.#nextId++,
      failure: undefined,
      settled: size < settleFrom,
      usedInBatch: -1,
    };
    const live = this.#live;
    void Promise.all([this.device.popErrorScope(), this.device.popErrorScope()])
      .then(([memory, validation]) => {
        const error = memory ?? validation;
        if (error) {
          buffer.failure = new OutOfMemoryError(
            `WebGPU: the device could not make a buffer of ${size} bytes (${live} bytes are live): ${error.message}`,
          );
        }
      })
      // A lost device answers no scope; whoever uses the buffer learns of the loss itself.
      .catch(() => undefined)
      .then(() => {
        buffer.settled = true;
      });
    return buffer;
  }
}
