import { ExecutionError, type FiligreeError, type Storage } from '@filigree/core-tensor';
import type { PooledBuffer } from './buffer-pool.js';

/** What a storage of this backend holds: a buffer of the pool, and the bytes it was taken for. */
export class GpuBuffer {
  released = false;

  constructor(
    readonly pooled: PooledBuffer,
    readonly bytes: number,
  ) {}
}

/** The buffer behind a storage. */
export function bufferOf(storage: Storage): PooledBuffer {
  const { handle } = storage;
  if (!(handle instanceof GpuBuffer) || handle.released)
    throw new ExecutionError('webgpu: the buffer is gone; the tensor was disposed or the backend was');
  return handle.pooled;
}

/** Why a storage holds no result: the op that should have filled it failed, or its buffer could not be made. */
export function failureOf(storage: Storage): FiligreeError | undefined {
  return storage.poison ?? (storage.handle instanceof GpuBuffer ? storage.handle.pooled.failure : undefined);
}
