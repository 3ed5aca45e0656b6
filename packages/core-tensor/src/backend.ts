import type { AttributeValue } from './attributes.js';
import type { AnyOp } from './op.js';
import type { Storage } from './storage.js';
import type { Tensor } from './tensor.js';

export type BackendKind = 'reference' | 'native' | 'webgpu';

/** A backend's own name for a buffer. */
export type BufferHandle = number | object;

/** What the backend found on this machine. */
export interface Capabilities {
  /** Worker threads; 1 where there is no pool. */
  readonly threads: number;
  /** `avx512`, `avx2`, `neon`, `scalar`, or the GPU adapter's description. */
  readonly device: string;
  readonly f16: boolean;
  readonly f64: boolean;
  /** WebGPU: dots of four signed bytes in a word. */
  readonly dot4: boolean;
  readonly subgroups: boolean;
  readonly limits: Readonly<Record<string, number>>;
}

export interface MemoryUse {
  /** Bytes of buffers that are allocated and referenced now. */
  readonly liveBytes: number;
  readonly peakBytes: number;
  readonly buffers: number;
  /** Bytes of mapped files among the live ones; they belong to the page cache. */
  readonly mappedBytes: number;
  /** Bytes the pool keeps for reuse. */
  readonly pooledBytes: number;
}

/** One executed op. */
export interface ProfileEntry {
  readonly op: string;
  /** Where it ran: the backend's own kernel, or the reference as a fallback. */
  readonly kernel: 'native' | 'webgpu' | 'reference';
  /** CPU path (`avx512`, …) or shader variant (`plain`, `f16`, `dot4+subgroups`, …). */
  readonly variant: string;
  readonly milliseconds: number;
}

export interface RunOptions {
  /** Checked between ops of the queue: work not yet started is dropped and its outputs reject with AbortError. */
  readonly signal?: AbortSignal | undefined;
}

/** What to do for an op without a kernel on this backend. */
export type FallbackPolicy = 'warn' | 'error';

/**
 * Runs ops. Work is queued in order; `run` returns at once; only `read` and `sync` wait. Wrong arguments throw synchronously, before
 * anything is queued. A failure during execution poisons its outputs: reads of what depends on them reject, other reads succeed, `sync`
 * rejects with the first. Work that an abort signal dropped rejects its reads alike, and is no failure to `sync`.
 */
export interface Backend {
  readonly kind: BackendKind;
  readonly capabilities: Capabilities;

  /** Reserves a buffer; the memory is taken in stream order. Zero bytes are allowed. */
  allocate(bytes: number): BufferHandle;
  /** Gives a buffer back once queued work no longer uses it. Called by {@link Storage}. */
  release(handle: BufferHandle): void;
  /** Queues a copy of `data` into the buffer; `data` may be reused at once. */
  write(storage: Storage, byteOffset: number, data: Uint8Array): void;
  /** Resolves with the bytes after all work queued before. */
  read(storage: Storage, byteOffset: number, bytes: number): Promise<Uint8Array>;
  /** A read-only buffer over a range of a file, without a copy, where the backend can; undefined where it cannot. */
  mapFile(path: string, byteOffset: number, bytes: number): BufferHandle | undefined;

  /** Drops the pages of a mapped file from this process once queued work is done with them; they are read again on use. */
  discardPages?(tensor: Tensor): void;

  /** Validates, allocates the outputs and queues the op. */
  run(
    op: AnyOp,
    inputs: Readonly<Record<string, Tensor | undefined>>,
    attributes: Readonly<Record<string, AttributeValue | undefined>>,
    options?: RunOptions,
  ): Record<string, Tensor>;
  /** Everything queued synchronously inside `fn` carries `signal`. */
  withSignal<T>(signal: AbortSignal | undefined, fn: () => T): T;
  /** A repeated sequence of ops as one value; `replay` runs it with new inputs. */
  record<In extends readonly Tensor[], Out>(step: (...inputs: In) => Out): Recording<In, Out>;

  /** Resolves when the queue has room; await it in every long loop. */
  ready(): Promise<void>;
  /** Hands queued work to the device without waiting. */
  flush(): void;
  /** Resolves when everything queued has run and every read has ended; rejects with the first failure since the last `sync`. */
  sync(): Promise<void>;
  memory(): MemoryUse;
  /** Collects one entry per executed op until `stop()`. */
  profile(): { stop(): Promise<ProfileEntry[]> };
  /** Drops every buffer; later use of its tensors throws. */
  dispose(): void;
}

/**
 * A recorded step. Replaying changes no result compared with calling the step, as long as the step does the same each time: a backend that keeps
 * what it queued does not call it again while the shapes and dtypes of its inputs stay. Results are the caller's, and so are the inputs; what
 * else the step uses is held until `dispose`. A tensor that the step uses by itself is not to be an input at the same time.
 */
export interface Recording<In extends readonly Tensor[], Out> {
  replay(...inputs: In): Out;
  dispose(): void;
}
