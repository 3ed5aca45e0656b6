import type { BufferHandle, Capabilities, MemoryUse, ProfileEntry } from '../backend.js';
import { BaseBackend, type OpCall } from '../base-backend.js';
import { encodeValues } from '../dtype.js';
import { AbortError, ExecutionError, type FiligreeError } from '../errors.js';
import { executionFailure, poisonResults } from '../failure.js';
import { inputNames, type AnyOp, type HostTensor } from '../op.js';
import type { Storage } from '../storage.js';
import { hostTensor, zeroHostTensor } from './host-tensor.js';

/** Runs every op by its definition, in plain JavaScript on the calling thread. Slow and right: the oracle for the other backends. */
export class ReferenceBackend extends BaseBackend {
  readonly kind = 'reference';
  readonly capabilities: Capabilities = {
    threads: 1,
    device: 'javascript',
    f16: true,
    f64: true,
    dot4: false,
    subgroups: false,
    limits: {},
  };
  readonly #buffers = new Map<BufferHandle, Uint8Array>();
  #next = 1;
  #liveBytes = 0;
  #peakBytes = 0;
  #failure: FiligreeError | undefined;
  #profile: ProfileEntry[] | undefined;

  allocate(bytes: number): BufferHandle {
    this.assertAlive();
    const handle = this.#next++;
    this.#buffers.set(handle, new Uint8Array(bytes));
    this.#liveBytes += bytes;
    this.#peakBytes = Math.max(this.#peakBytes, this.#liveBytes);
    return handle;
  }

  memory(): MemoryUse {
    return {
      liveBytes: this.#liveBytes,
      peakBytes: this.#peakBytes,
      buffers: this.#buffers.size,
      mappedBytes: 0,
      pooledBytes: 0,
    };
  }

  flush(): void {
    this.assertAlive();
  }

  dispose(): void {
    this.disposed = true;
    this.#buffers.clear();
    this.#liveBytes = 0;
  }

  protected releaseNow(handle: BufferHandle): void {
    const buffer = this.#buffers.get(handle);
    if (!buffer) return;
    this.#buffers.delete(handle);
    this.#liveBytes -= buffer.length;
  }

  protected writeNow(storage: Storage, byteOffset: number, data: Uint8Array): void {
    this.#bytes(storage).set(data, byteOffset);
  }

  protected readNow(storage: Storage, byteOffset: number, bytes: number): Promise<Uint8Array> {
    return Promise.resolve(this.#bytes(storage).slice(byteOffset, byteOffset + bytes));
  }

  protected hasKernel(_op: AnyOp): boolean {
    return true;
  }

  protected dispatch(call: OpCall): void {
    const { op } = call;
    const started = performance.now();
    try {
      if (call.signal?.aborted) throw new AbortError(undefined, { cause: call.signal.reason });
      this.#compute(call);
    } catch (error) {
      const failure = executionFailure(call, error);
      if (!(failure instanceof AbortError)) this.#failure ??= failure;
      poisonResults(call, failure);
    }
    this.#profile?.push({ op: op.name, kernel: 'reference', variant: 'javascript', milliseconds: performance.now() - started });
  }

  protected syncNow(): Promise<void> {
    const failure = this.#failure;
    this.#failure = undefined;
    return failure ? Promise.reject(failure) : Promise.resolve();
  }

  protected async readyNow(): Promise<void> {
    // Ops run on the calling thread; a turn of the event loop keeps timers and input alive in long loops.
    await new Promise((resolve) => setTimeout(resolve, 0));
  }

  protected startProfile(): void {
    this.#profile = [];
  }

  protected stopProfile(): Promise<ProfileEntry[]> {
    const entries = this.#profile ?? [];
    this.#profile = undefined;
    return Promise.resolve(entries);
  }

  #compute(call: OpCall): void {
    const { op } = call;
    const names = inputNames(op);
    const io: Record<string, HostTensor> = {};
    for (const [index, tensor] of call.inputs.entries()) {
      if (!tensor) continue;
      const bytes = this.#bytes(tensor.storage).subarray(tensor.byteOffset, tensor.byteOffset + tensor.bytes);
      io[names[index]] = hostTensor(bytes, tensor.shape, tensor.dtype);
    }
    for (const [index, tensor] of call.outputs.entries()) io[op.outputs[index]] = zeroHostTensor(tensor.shape, tensor.dtype);
    op.reference(io, call.attributes);
    for (const [index, tensor] of call.outputs.entries()) {
      this.#bytes(tensor.storage).set(encodeValues(io[op.outputs[index]].data, tensor.dtype), tensor.byteOffset);
    }
    for (const name of op.mutates) {
      const tensor = call.inputs[names.indexOf(name)];
      if (tensor) this.#bytes(tensor.storage).set(encodeValues(io[name].data, tensor.dtype), tensor.byteOffset);
    }
  }

  #bytes(storage: Storage): Uint8Array {
    const buffer = this.#buffers.get(storage.handle);
    if (!buffer) throw new ExecutionError('reference: the buffer is gone; the tensor was disposed or the backend was');
    return buffer;
  }
}

/** The portable backend: no native code, no GPU. */
export function createReferenceBackend(): ReferenceBackend {
  return new ReferenceBackend();
}
