import type { Backend } from './backend.js';
import { byteSize, decodeBytes, encodeValues, type DType, type HostArray } from './dtype.js';
import { DisposedError, ShapeError } from './errors.js';
import { forgetLeak, watchForLeak } from './leaks.js';
import { registerInScope } from './scope.js';
import { checkShape, formatShape, sizeOf, type Shape } from './shape.js';
import { Storage } from './storage.js';
import { noteView } from './views.js';

/** Reads and uploads go in pieces of at most this many bytes, so no weight passes through one JavaScript buffer. */
export const transferChunkBytes = 64 * 2 ** 20;

/**
 * An immutable shape and dtype over contiguous, row-major storage on one backend. `reshape` and leading-axis `narrow` are
 * views. Everything that computes is a function in `ops/`.
 */
export class Tensor {
  readonly shape: Shape;
  readonly dtype: DType;
  /** @internal The shared buffer. */
  readonly storage: Storage;
  /** Offset of the first element in the buffer, in elements. */
  readonly offset: number;
  /** Number of elements. */
  readonly size: number;
  /** Bytes of the elements. */
  readonly bytes: number;
  #disposed = false;
  #watched = false;

  /** Takes over one reference to `storage`. Use {@link fromArray}, {@link fromBytes} or {@link empty} to make tensors. */
  constructor(storage: Storage, shape: Shape, dtype: DType, offset = 0) {
    this.size = checkShape(shape, 'Tensor');
    if (!Number.isSafeInteger(offset) || offset < 0)
      throw new ShapeError(`Tensor: offset ${offset} is not a whole number of elements`);
    // Shapes of tensors go from op to op: a frozen one need not be copied again.
    this.shape = Object.isFrozen(shape) ? shape : Object.freeze([...shape]);
    this.dtype = dtype;
    this.storage = storage;
    this.offset = offset;
    this.bytes = this.size * byteSize(dtype);
    const end = offset * byteSize(dtype) + this.bytes;
    if (end > storage.bytes) {
      throw new ShapeError(
        `Tensor: ${formatShape(shape)} ${dtype} at element ${offset} needs ${end} bytes, the buffer has ${storage.bytes}`,
      );
    }
    if (!registerInScope(this)) this.watch();
  }

  /** @internal Releases the storage when this tensor is collected without `dispose()`. A scope does that for the tensors it owns. */
  watch(): void {
    if (this.#watched || this.#disposed) return;
    this.#watched = true;
    watchForLeak(this, this.storage);
  }

  get backend(): Backend {
    return this.storage.backend;
  }

  get byteOffset(): number {
    return this.offset * byteSize(this.dtype);
  }

  get disposed(): boolean {
    return this.#disposed;
  }

  /** Throws {@link DisposedError} naming `what` when the tensor was disposed. */
  assertAlive(what: string): void {
    if (this.#disposed || !this.storage.alive) throw new DisposedError(`${what} was used after dispose()`);
  }

  /**
   * Waits for the queued work this tensor depends on and copies its elements to the host. f16 and bf16 come as Float32Array.
   * @throws what the op that should have produced it failed with.
   */
  async read(): Promise<HostArray> {
    return decodeBytes(await this.readBytes(), this.dtype);
  }

  /** Like {@link read}, for dtypes that hold numbers: everything but i64. */
  async readNumbers(): Promise<Exclude<HostArray, BigInt64Array>> {
    const values = await this.read();
    if (values instanceof BigInt64Array) return Float64Array.from(values, Number);
    return values;
  }

  /** The element bytes, little-endian, as stored. */
  async readBytes(): Promise<Uint8Array> {
    this.assertAlive('Tensor.readBytes: the tensor');
    // The backend holds the storage while it reads.
    if (this.bytes <= transferChunkBytes) return this.backend.read(this.storage, this.byteOffset, this.bytes);
    const storage = this.storage.retain();
    try {
      const whole = new Uint8Array(this.bytes);
      for (let start = 0; start < whole.length; start += transferChunkBytes) {
        const length = Math.min(transferChunkBytes, whole.length - start);
        whole.set(await this.backend.read(storage, this.byteOffset + start, length), start);
      }
      return whole;
    } finally {
      storage.release();
    }
  }

  /** A copy on another backend (or this tensor's own, retained, when it is the same). */
  async toBackend(backend: Backend): Promise<Tensor> {
    if (backend === this.backend) return this.view(this.shape);
    this.assertAlive('Tensor.toBackend: the tensor');
    const storage = this.storage.retain();
    const target = empty(backend, this.shape, this.dtype);
    try {
      for (let start = 0; start < this.bytes; start += transferChunkBytes) {
        const length = Math.min(transferChunkBytes, this.bytes - start);
        backend.write(target.storage, start, await this.backend.read(storage, this.byteOffset + start, length));
      }
      return target;
    } catch (error) {
      target.dispose();
      throw error;
    } finally {
      storage.release();
    }
  }

  /** Another shape over the same elements; shares storage. */
  view(shape: Shape, offset = this.offset): Tensor {
    this.assertAlive('Tensor.view: the tensor');
    const view = new Tensor(this.storage.retain(), shape, this.dtype, offset);
    noteView(this, view);
    return view;
  }

  /** Releases this tensor's reference. Queued work that uses it still completes. Safe to call twice. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    if (this.#watched) forgetLeak(this);
    this.storage.release();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** Uninitialised elements. */
export function empty(backend: Backend, shape: Shape, dtype: DType): Tensor {
  const bytes = checkShape(shape, 'empty') * byteSize(dtype);
  return new Tensor(new Storage(backend, backend.allocate(bytes), bytes), shape, dtype);
}

/** Elements from host values, converted to `dtype` (default f32); copied before the call returns. */
export function fromArray(
  backend: Backend,
  values: ArrayLike<number> | BigInt64Array,
  shape: Shape,
  dtype: DType = values instanceof BigInt64Array ? 'i64' : 'f32',
): Tensor {
  checkShape(shape, 'fromArray');
  if (values.length !== sizeOf(shape)) {
    throw new ShapeError(`fromArray: ${values.length} values do not fill ${formatShape(shape)} (${sizeOf(shape)} elements)`);
  }
  return fromBytes(backend, encodeValues(values, dtype), shape, dtype);
}

/** Elements from little-endian bytes as stored in files; copied before the call returns. */
export function fromBytes(backend: Backend, bytes: Uint8Array, shape: Shape, dtype: DType): Tensor {
  const expected = sizeOf(shape) * byteSize(dtype);
  if (bytes.length !== expected) {
    throw new ShapeError(`fromBytes: ${formatShape(shape)} ${dtype} takes ${expected} bytes, got ${bytes.length}`);
  }
  const tensor = empty(backend, shape, dtype);
  for (let start = 0; start < bytes.length; start += transferChunkBytes) {
    backend.write(tensor.storage, start, bytes.subarray(start, start + transferChunkBytes));
  }
  return tensor;
}

/** The same elements under another shape; a view, no copy. One dimension may be -1. */
export function reshape(x: Tensor, shape: Shape): Tensor {
  const known = sizeOf(shape.filter((dimension) => dimension !== -1));
  const resolved = shape.map((dimension) => (dimension === -1 ? x.size / known : dimension));
  if (shape.filter((dimension) => dimension === -1).length > 1 || sizeOf(resolved) !== x.size) {
    throw new ShapeError(`reshape: x ${formatShape(x.shape)} has ${x.size} elements and cannot become ${formatShape(shape)}`);
  }
  return x.view(resolved);
}

/** Rows `start … start + length` of the leading axis; a view, no copy. */
export function narrow(x: Tensor, start: number, length: number): Tensor {
  if (x.shape.length === 0) throw new ShapeError('narrow: x is a scalar and has no leading axis');
  const rows = x.shape[0];
  if (!Number.isInteger(start) || !Number.isInteger(length) || start < 0 || length < 0 || start + length > rows) {
    throw new ShapeError(`narrow: rows ${start} … ${start + length} are outside of x with ${rows} rows`);
  }
  const inner = sizeOf(x.shape.slice(1));
  return x.view([length, ...x.shape.slice(1)], x.offset + start * inner);
}
