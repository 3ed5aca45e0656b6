import { flattenAttributes, resolveAttributes, type AttributeValue } from './attributes.js';
import type {
  Backend,
  BackendKind,
  BufferHandle,
  Capabilities,
  FallbackPolicy,
  MemoryUse,
  ProfileEntry,
  Recording,
  RunOptions,
} from './backend.js';
import { encodeValues } from './dtype.js';
import {
  AbortError,
  BackendMismatchError,
  DisposedError,
  DTypeError,
  MissingKernelError,
  ShapeError,
  throwIfAborted,
  type FiligreeError,
} from './errors.js';
import { executionFailure, poisonOf, poisonResults } from './failure.js';
import { inputNames, isOptionalInput, type AnyOp, type TensorMeta } from './op.js';
import { hostTensor, zeroHostTensor } from './reference/host-tensor.js';
import { sizeOf } from './shape.js';
import type { Storage } from './storage.js';
import { empty, type Tensor } from './tensor.js';

/** A validated call: what `dispatch` of a backend gets. */
export interface OpCall {
  readonly op: AnyOp;
  /** In declared order; undefined where an optional input was left out. */
  readonly inputs: readonly (Tensor | undefined)[];
  /** In declared order. */
  readonly outputs: readonly Tensor[];
  readonly attributes: Readonly<Record<string, AttributeValue>>;
  /** The same as the addon takes them. */
  readonly flatAttributes: readonly number[];
  readonly signal: AbortSignal | undefined;
}

/** What the three backends share: validation, output allocation, fallback to the reference, abort, versions. */
export abstract class BaseBackend implements Backend {
  abstract readonly kind: BackendKind;
  abstract readonly capabilities: Capabilities;
  #signal: AbortSignal | undefined;
  readonly #fallback: FallbackPolicy;
  readonly #warned = new Set<string>();
  /** While a fallback reads, computes and writes on the host, everything queued after it waits here. */
  #tail: Promise<void> | undefined;
  #profile: ProfileEntry[] | undefined;
  /** The first failure of a fallback since the last `sync`. */
  #failure: FiligreeError | undefined;
  /** Reads under way; `sync` waits for them, so that nothing holds memory for them afterwards. */
  readonly #reads = new Set<Promise<unknown>>();
  protected disposed = false;

  constructor(fallback: FallbackPolicy = 'warn') {
    this.#fallback = fallback;
  }

  abstract allocate(bytes: number): BufferHandle;
  abstract memory(): MemoryUse;
  abstract flush(): void;
  protected abstract releaseNow(handle: BufferHandle): void;
  protected abstract writeNow(storage: Storage, byteOffset: number, data: Uint8Array): void;
  protected abstract readNow(storage: Storage, byteOffset: number, bytes: number): Promise<Uint8Array>;
  /** Queues the kernel. Throws only for host-side mistakes; failures during execution poison the outputs. */
  protected abstract dispatch(call: OpCall): void;
  protected abstract hasKernel(op: AnyOp): boolean;
  protected abstract syncNow(): Promise<void>;
  protected abstract readyNow(): Promise<void>;
  protected abstract startProfile(): void;
  protected abstract stopProfile(): Promise<ProfileEntry[]>;
  abstract dispose(): void;

  mapFile(_path: string, _byteOffset: number, _bytes: number): BufferHandle | undefined {
    return undefined;
  }

  run(
    op: AnyOp,
    given: Readonly<Record<string, Tensor | undefined>>,
    givenAttributes: Readonly<Record<string, AttributeValue | undefined>>,
    options?: RunOptions,
  ): Record<string, Tensor> {
    this.assertAlive();
    const signal = options?.signal ?? this.#signal;
    throwIfAborted(signal);
    const inputs = this.#collectInputs(op, given);
    const attributes = resolveAttributes(op.name, op.attributes, givenAttributes);
    const metas = op.infer(given as Readonly<Record<string, TensorMeta | undefined>>, attributes);
    for (const name of Object.keys(metas)) {
      if (!op.outputs.includes(name)) throw new ShapeError(`${op.name}: infer returned '${name}', which is not an output`);
    }
    this.#checkDTypes(op, inputs);
    const native = this.hasKernel(op);
    if (!native && this.#fallback === 'error') {
      const reason = op.nativeOnly === undefined ? '' : ` (${op.nativeOnly})`;
      throw new MissingKernelError(
        `${op.name}: the ${this.kind} backend has no kernel for it${reason} and fallback is 'error'`,
      );
    }
    const outputs: Tensor[] = [];
    const named: Record<string, Tensor> = {};
    for (const name of op.outputs) {
      const tensor = empty(this, metas[name].shape, metas[name].dtype);
      outputs.push(tensor);
      named[name] = tensor;
    }
    const flatAttributes = flattenAttributes(op.attributes, attributes);
    const call: OpCall = { op, inputs, outputs, attributes, flatAttributes, signal };
    for (const name of op.mutates) {
      const storage = given[name]?.storage;
      if (storage) storage.version++;
    }
    if (!native) this.#enqueueFallback(call);
    else if (this.#tail) {
      this.enqueue(() => {
        this.#start(call);
      });
    } else this.#start(call);
    return named;
  }

  withSignal<T>(signal: AbortSignal | undefined, fn: () => T): T {
    const before = this.#signal;
    this.#signal = signal;
    try {
      return fn();
    } finally {
      this.#signal = before;
    }
  }

  /** Replays by running the step again; a backend with a cheaper way overrides it. */
  record<In extends readonly Tensor[], Out>(step: (...inputs: In) => Out): Recording<In, Out> {
    return { replay: (...inputs) => step(...inputs), dispose: () => undefined };
  }

  write(storage: Storage, byteOffset: number, data: Uint8Array): void {
    this.assertAlive();
    if (byteOffset < 0 || byteOffset + data.length > storage.bytes) {
      throw new ShapeError(
        `write: bytes ${byteOffset} … ${byteOffset + data.length} are outside of a buffer of ${storage.bytes}`,
      );
    }
    if (data.length === 0) return;
    if (!this.#tail) {
      this.writeNow(storage, byteOffset, data);
      return;
    }
    const copy = data.slice();
    const held = storage.retain();
    this.enqueue(() => {
      this.writeNow(held, byteOffset, copy);
      held.release();
    });
  }

  async read(storage: Storage, byteOffset: number, bytes: number): Promise<Uint8Array> {
    const read = this.#read(storage, byteOffset, bytes);
    this.#reads.add(read);
    try {
      return await read;
    } finally {
      this.#reads.delete(read);
    }
  }

  async #read(storage: Storage, byteOffset: number, bytes: number): Promise<Uint8Array> {
    this.assertAlive();
    if (byteOffset < 0 || bytes < 0 || byteOffset + bytes > storage.bytes) {
      throw new ShapeError(`read: bytes ${byteOffset} … ${byteOffset + bytes} are outside of a buffer of ${storage.bytes}`);
    }
    const held = storage.retain();
    try {
      while (this.#tail) await this.#tail;
      if (held.poison) throw held.poison;
      return await this.readNow(held, byteOffset, bytes);
    } finally {
      held.release();
    }
  }

  release(handle: BufferHandle): void {
    if (this.disposed) return;
    this.enqueue(() => {
      if (!this.disposed) this.releaseNow(handle);
    });
  }

  async ready(): Promise<void> {
    this.assertAlive();
    while (this.#tail) await this.#tail;
    await this.readyNow();
  }

  async sync(): Promise<void> {
    this.assertAlive();
    while (this.#tail) await this.#tail;
    await Promise.allSettled(this.#reads);
    const failure = this.#failure;
    this.#failure = undefined;
    if (!failure) return this.syncNow();
    await this.syncNow().catch(() => undefined);
    throw failure;
  }

  profile(): { stop(): Promise<ProfileEntry[]> } {
    this.assertAlive();
    this.#profile = [];
    this.startProfile();
    return {
      stop: async () => {
        // Failures are for `sync` to report: a profile of what ran is no place to lose them.
        while (this.#tail) await this.#tail;
        const entries = await this.stopProfile();
        const fallbacks = this.#profile ?? [];
        this.#profile = undefined;
        return [...entries, ...fallbacks];
      },
    };
  }

  /** The signal that calls carry now. */
  protected get signal(): AbortSignal | undefined {
    return this.#signal;
  }

  /** Whether a fallback on the host is in progress, which everything queued now waits for. */
  protected get waiting(): boolean {
    return this.#tail !== undefined;
  }

  protected assertAlive(): void {
    if (this.disposed) throw new DisposedError(`The ${this.kind} backend was used after dispose()`);
  }

  /** Runs `work` now, or after the fallback in progress. */
  protected enqueue(work: () => void): void {
    if (!this.#tail) {
      work();
      return;
    }
    this.#chain(() => {
      work();
      return Promise.resolve();
    });
  }

  #chain(work: () => Promise<void>): void {
    const next = (this.#tail ?? Promise.resolve()).then(work);
    const settled = next.then(
      () => undefined,
      () => undefined,
    );
    this.#tail = settled;
    void settled.then(() => {
      if (this.#tail === settled) this.#tail = undefined;
    });
  }

  #collectInputs(op: AnyOp, given: Readonly<Record<string, Tensor | undefined>>): (Tensor | undefined)[] {
    const names = inputNames(op);
    for (const name of Object.keys(given)) {
      if (!names.includes(name)) throw new ShapeError(`${op.name}: unknown input '${name}'; it takes ${names.join(', ')}`);
    }
    return names.map((name, index) => {
      const tensor = given[name];
      if (!tensor) {
        if (isOptionalInput(op, index)) return undefined;
        throw new ShapeError(`${op.name}: input '${name}' is missing`);
      }
      tensor.assertAlive(`${op.name}: input '${name}'`);
      if (tensor.backend !== this) {
        throw new BackendMismatchError(
          `${op.name}: input '${name}' lives on a ${tensor.backend.kind} backend, the op runs on a ${this.kind} one; move it with toBackend()`,
        );
      }
      return tensor;
    });
  }

  #checkDTypes(op: AnyOp, inputs: readonly (Tensor | undefined)[]): void {
    if (this.capabilities.f64) return;
    if (inputs.some((tensor) => tensor?.dtype === 'f64')) {
      throw new DTypeError(`${op.name}: the ${this.kind} backend does not compute in f64; cast to f32 first`);
    }
  }

  #enqueueFallback(call: OpCall): void {
    const { op } = call;
    if (!this.#warned.has(op.name)) {
      this.#warned.add(op.name);
      console.warn(`filigree: ${op.name} has no ${this.kind} kernel and runs on the reference implementation, which is slow`);
    }
    const held = [...call.inputs, ...call.outputs]
      .filter((tensor) => tensor !== undefined)
      .map((tensor) => tensor.storage.retain());
    this.#chain(async () => {
      try {
        if (call.signal?.aborted) throw new AbortError(undefined, { cause: call.signal.reason });
        await this.#runOnHost(call);
      } catch (error) {
        const failure = executionFailure(call, error);
        if (!(failure instanceof AbortError)) this.#failure ??= failure;
        poisonResults(call, failure);
      } finally {
        for (const storage of held) storage.release();
      }
    });
  }

  /** Runs the kernel, unless an argument never came to be: then the results never do either. */
  #start(call: OpCall): void {
    const failure = poisonOf(call);
    if (failure) poisonResults(call, failure);
    else this.dispatch(call);
  }

  async #runOnHost(call: OpCall): Promise<void> {
    const { op } = call;
    const started = performance.now();
    const failure = poisonOf(call);
    if (failure) throw failure;
    const names = inputNames(op);
    const io: Record<string, ReturnType<typeof hostTensor> | undefined> = {};
    for (const [index, tensor] of call.inputs.entries()) {
      if (!tensor) continue;
      const bytes = await this.readNow(tensor.storage, tensor.byteOffset, tensor.bytes);
      io[names[index]] = hostTensor(bytes, tensor.shape, tensor.dtype);
    }
    for (const [index, tensor] of call.outputs.entries()) io[op.outputs[index]] = zeroHostTensor(tensor.shape, tensor.dtype);
    op.reference(io, call.attributes);
    const written = [
      ...call.outputs.map((tensor, index) => [tensor, io[op.outputs[index]]] as const),
      ...op.mutates.map((name) => [call.inputs[names.indexOf(name)], io[name]] as const),
    ];
    for (const [tensor, host] of written) {
      if (tensor && host && sizeOf(tensor.shape) > 0)
        this.writeNow(tensor.storage, tensor.byteOffset, encodeValues(host.data, tensor.dtype));
    }
    this.#profile?.push({ op: op.name, kernel: 'reference', variant: 'fallback', milliseconds: performance.now() - started });
  }
}
