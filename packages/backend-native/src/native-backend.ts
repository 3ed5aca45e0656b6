import {
  BackendVersionError,
  BaseBackend,
  layoutHash,
  opSignature,
  OptionError,
  Storage,
  throwIfAborted,
  withViewsOf,
  type AnyOp,
  type BufferHandle,
  type Capabilities,
  type FallbackPolicy,
  type FiligreeError,
  type MemoryUse,
  type OpCall,
  type ProfileEntry,
  type Recording,
  type Tensor,
} from '@filigree/core-tensor';
import type { Engine } from './addon.js';
import { Capture } from './capture.js';
import { typedError } from './errors.js';
import { loadAddon } from './load-addon.js';
import { Message } from './message.js';
import { NativeRecording, type Captured } from './recording.js';

export interface NativeBackendOptions {
  /** Threads that compute, 1 … 256. Default: `defaultThreads()`, the physical cores this process may use. */
  readonly threads?: number | undefined;
  /** CPU path: `scalar`, `avx2`, `avx512`, `neon`. Default: `FILIGREE_CPU`, else the best of this machine. */
  readonly cpu?: string | undefined;
  /** What to do for an op without a native kernel. Default `warn`: run the reference. */
  readonly fallback?: FallbackPolicy | undefined;
}

/** Records (ops, allocations, releases) are handed over in groups: one crossing into the addon costs more than one record. */
const submitAfterRecords = 24;
/** Commands in the queue beyond which `ready()` waits. */
const queueLimit = 1024;
/** Bytes of uploads in the queue beyond which `ready()` waits. */
const queueBytesLimit = 256 * 2 ** 20;

/** Runs ops on the CPU in Rust, in order, on a thread of its own with a worker pool below it. */
export class NativeBackend extends BaseBackend {
  readonly kind = 'native';
  readonly capabilities: Capabilities;
  readonly #engine: Engine;
  readonly #ops: ReadonlyMap<string, { index: number; hash: string }>;
  readonly #names: readonly string[];
  readonly #checked = new Map<AnyOp, number>();
  readonly #sizes = new Map<BufferHandle, number>();
  readonly #mapped = new Set<BufferHandle>();
  readonly #tokens = new WeakMap<AbortSignal, number>();
  #nextToken = 1;
  #nextId = 1;
  readonly #message = new Message();
  /** While a step is captured: what it used, and whether it can be replayed. */
  #capture: Capture | undefined;
  #liveBytes = 0;
  #mappedBytes = 0;

  constructor(options: NativeBackendOptions = {}) {
    super(options.fallback);
    const addon = loadAddon();
    const paths = addon.cpuPaths();
    // An empty variable is one that is not set.
    const cpu = options.cpu ?? (process.env.FILIGREE_CPU || paths[paths.length - 1]);
    if (!paths.includes(cpu)) {
      throw new OptionError(
        `createNativeBackend: CPU path '${cpu}' is not available here; this machine has ${paths.join(', ')}`,
      );
    }
    const threads = options.threads ?? addon.defaultThreads();
    if (!Number.isInteger(threads) || threads < 1 || threads > 256) {
      throw new OptionError(`createNativeBackend: threads is ${threads}, it takes a whole number from 1 to 256`);
    }
    this.capabilities = { threads, device: cpu, f16: true, f64: true, dot4: false, subgroups: false, limits: {} };
    const table = addon.opTable();
    this.#ops = new Map(table.map(({ name, hash }, index) => [name, { index, hash }]));
    this.#names = table.map(({ name }) => name);
    this.#engine = new addon.Engine(threads, cpu);
  }

  allocate(bytes: number): BufferHandle {
    this.assertAlive();
    const id = this.#nextId++;
    this.#message.allocate(id, bytes);
    this.#queued();
    this.#sizes.set(id, bytes);
    this.#liveBytes += bytes;
    this.#capture?.made.add(id);
    return id;
  }

  override mapFile(path: string, byteOffset: number, bytes: number): BufferHandle | undefined {
    this.assertAlive();
    if (!Number.isSafeInteger(byteOffset) || byteOffset < 0 || !Number.isSafeInteger(bytes) || bytes < 0) {
      throw new OptionError(
        `mapFile: ${bytes} bytes at ${byteOffset} of ${path} are not a range of whole, non-negative numbers`,
      );
    }
    this.flush();
    const id = this.#nextId++;
    this.#engine.mapFile(id, path, byteOffset, bytes);
    this.#sizes.set(id, bytes);
    this.#mapped.add(id);
    this.#liveBytes += bytes;
    this.#mappedBytes += bytes;
    return id;
  }

  /** Drops a mapped tensor's pages from this process once queued work is done with them; they are read from the file again on use. */
  discardPages(tensor: Tensor): void {
    this.enqueue(() => {
      this.flush();
      this.#engine.discard(tensor.storage.handle as number);
    });
  }

  memory(): MemoryUse {
    const [, peak, pooled] = this.#engine.memory();
    return {
      liveBytes: this.#liveBytes,
      peakBytes: Math.max(peak, this.#liveBytes),
      buffers: this.#sizes.size,
      mappedBytes: this.#mappedBytes,
      pooledBytes: pooled,
    };
  }

  flush(): void {
    // What a captured step hands over early cannot be replayed with it.
    if (this.#capture) this.#capture.whole = false;
    if (this.#message.records > 0) this.#engine.submit(this.#message.take());
  }

  /** Keeps the records of the step's first run and sends them again with other inputs. */
  override record<In extends readonly Tensor[], Out>(step: (...inputs: In) => Out): Recording<In, Out> {
    return new NativeRecording<In, Out>(
      {
        capture: (given, run) => this.#captured(given, run),
        signal: () => this.signal,
        adopt: (bytes) => {
          const id = this.#nextId++;
          this.#sizes.set(id, bytes);
          this.#liveBytes += bytes;
          return new Storage(this, id, bytes);
        },
        define: (words, slots) => {
          this.flush();
          const id = this.#nextId++;
          this.#engine.define(id, words, slots);
          return id;
        },
        replay: (program, buffers) => {
          const run = (words: Float64Array): void => {
            this.flush();
            this.#engine.replay(program, words);
          };
          if (!this.waiting) run(buffers);
          else {
            const copy = buffers.slice();
            this.enqueue(() => {
              run(copy);
            });
          }
        },
        forget: (program) => {
          this.enqueue(() => {
            if (!this.disposed) this.#engine.forgetProgram(program);
          });
        },
      },
      step,
    );
  }

  dispose(): void {
    if (this.disposed) return;
    this.flush();
    this.disposed = true;
    this.#engine.stop();
    this.#sizes.clear();
    this.#mapped.clear();
    this.#liveBytes = 0;
    this.#mappedBytes = 0;
  }

  protected releaseNow(handle: BufferHandle): void {
    const bytes = this.#sizes.get(handle);
    if (bytes === undefined) return;
    this.#message.release(handle as number);
    this.#queued();
    this.#sizes.delete(handle);
    this.#liveBytes -= bytes;
    if (this.#mapped.delete(handle)) this.#mappedBytes -= bytes;
  }

  protected writeNow(storage: Storage, byteOffset: number, data: Uint8Array): void {
    this.flush();
    this.#engine.write(storage.handle as number, byteOffset, data);
  }

  protected async readNow(storage: Storage, byteOffset: number, bytes: number): Promise<Uint8Array> {
    this.flush();
    try {
      return await this.#engine.read(storage.handle as number, byteOffset, bytes);
    } catch (error) {
      throw this.#typed(error);
    }
  }

  protected hasKernel(op: AnyOp): boolean {
    if (op.native === undefined) {
      if (this.#capture) this.#capture.whole = false;
      return false;
    }
    this.#indexOf(op);
    return true;
  }

  protected dispatch(call: OpCall): void {
    this.#message.op(call, this.#indexOf(call.op), call.signal ? this.#tokenOf(call.signal) : 0);
    this.#capture?.called(call);
    this.#queued();
  }

  protected async syncNow(): Promise<void> {
    this.flush();
    try {
      await this.#engine.fence(true);
    } catch (error) {
      throw this.#typed(error);
    }
  }

  protected async readyNow(): Promise<void> {
    this.flush();
    if (this.#engine.depth() > queueLimit || this.#engine.queuedBytes() > queueBytesLimit) await this.#engine.fence(false);
  }

  protected startProfile(): void {
    this.flush();
    void this.#engine.profile(true);
  }

  protected async stopProfile(): Promise<ProfileEntry[]> {
    this.flush();
    const pairs = await this.#engine.profile(false);
    const nameOf = new Map([...this.#checked].map(([op, index]) => [index, op.name]));
    return Array.from({ length: pairs.length / 2 }, (_, entry) => ({
      op: nameOf.get(pairs[2 * entry]) ?? this.#names[pairs[2 * entry]],
      kernel: 'native' as const,
      variant: this.capabilities.device,
      milliseconds: pairs[2 * entry + 1],
    }));
  }

  #captured<T>(given: readonly Tensor[], run: () => T): { result: T; captured: Captured | undefined } {
    // Records of a step inside of another, or behind a fallback, do not stand in one piece.
    if (this.#capture || this.waiting) return { result: run(), captured: undefined };
    this.flush();
    const capture = new Capture(given);
    this.#capture = capture;
    try {
      const result = withViewsOf(capture.views, run);
      const captured = capture.whole
        ? { outside: capture.outside, mutated: capture.mutated, words: this.#message.copy(), signal: this.signal }
        : undefined;
      return { result, captured };
    } finally {
      this.#capture = undefined;
      this.flush();
    }
  }

  /** A record was added: hand over when there are enough, or else at the end of the current turn. */
  #queued(): void {
    if (this.#capture) return;
    const { records } = this.#message;
    if (records >= submitAfterRecords) this.flush();
    else if (records === 1) {
      queueMicrotask(() => {
        if (!this.disposed) this.flush();
      });
    }
  }

  #indexOf(op: AnyOp): number {
    const known = this.#checked.get(op);
    if (known !== undefined) return known;
    const entry = this.#ops.get(op.native ?? '');
    const hash = layoutHash(opSignature(op));
    if (!entry) {
      throw new BackendVersionError(
        `${op.name}: the native addon has no kernel '${op.native ?? ''}' (layout ${hash}); install the addon of the same version`,
      );
    }
    if (entry.hash !== hash) {
      throw new BackendVersionError(
        `${op.name}: the native addon was built for layout ${entry.hash}, this package has ${hash} (${opSignature(op)}); install matching versions`,
      );
    }
    this.#checked.set(op, entry.index);
    return entry.index;
  }

  /** The addon names ops as its table does; users know them by the package's name. */
  #typed(error: unknown): FiligreeError {
    return typedError(error, (native) => [...this.#checked.keys()].find((op) => op.native === native)?.name ?? native);
  }

  #tokenOf(signal: AbortSignal): number {
    const known = this.#tokens.get(signal);
    if (known !== undefined) return known;
    throwIfAborted(signal);
    const token = this.#nextToken++;
    this.#tokens.set(signal, token);
    signal.addEventListener(
      'abort',
      () => {
        if (this.disposed) return;
        this.#engine.abort(token);
        // Nothing queued later carries the token: a call with a signal that has fired throws.
        void this.#engine.fence(false).then(() => {
          this.#engine.forget(token);
        });
      },
      { once: true },
    );
    return token;
  }
}

/** The backend on native kernels: Node, Bun and Deno. */
export function createNativeBackend(options?: NativeBackendOptions): NativeBackend {
  return new NativeBackend(options);
}
