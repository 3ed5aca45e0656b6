import {
  BaseBackend,
  ExecutionError,
  FiligreeError,
  Storage,
  withViewsOf,
  type AnyOp,
  type BufferHandle,
  type Capabilities,
  type FallbackPolicy,
  type MemoryUse,
  type OpCall,
  type ProfileEntry,
  type Recording,
  type ShaderVariant,
  type Tensor,
} from '@filigree/core-tensor';
import { BufferPool } from './buffer-pool.js';
import { Capture } from './capture.js';
import { CommandQueue } from './command-queue.js';
import { DeviceWatch } from './device-watch.js';
import { bufferOf, failureOf, GpuBuffer } from './gpu-buffer.js';
import { PipelineCache } from './pipeline-cache.js';
import { Readback } from './readback.js';
import { Recorder, type RecorderLimits } from './recorder.js';
import { WebGpuRecording } from './recording.js';
import { ReplayProgram } from './replay-program.js';
import { VariantChoices } from './variant-choices.js';
import type { DisabledVariant } from './variants.js';

export interface WebGpuBackendParts {
  readonly device: GPUDevice;
  /** Kept referenced for as long as the backend lives: Dawn ends with its entry point. */
  readonly gpu: GPU | undefined;
  /** True when `dispose()` is to destroy the device. */
  readonly ownsDevice: boolean;
  /** The adapter in words. */
  readonly description: string;
  readonly variants: ShaderVariant;
  readonly limits: RecorderLimits;
  readonly fallback: FallbackPolicy | undefined;
}

/** Runs ops as compute shaders on a GPUDevice. Made by {@link createWebGpuBackend}. */
export class WebGpuBackend extends BaseBackend {
  readonly kind = 'webgpu';
  readonly capabilities: Capabilities;
  readonly device: GPUDevice;
  readonly #parts: WebGpuBackendParts;
  readonly #pool: BufferPool;
  readonly #queue: CommandQueue;
  readonly #pipelines: PipelineCache;
  readonly #recorder: Recorder;
  readonly #readback: Readback;
  /** Buffers that tensors hold now. */
  readonly #live = new Set<GpuBuffer>();
  readonly #variants: VariantChoices;
  /** While a step is captured: what it does. */
  #capture: Capture | undefined;
  /** Programs of recordings, to be dropped with the backend. */
  readonly #programs = new Set<ReplayProgram>();
  readonly #watch: DeviceWatch;

  constructor(parts: WebGpuBackendParts) {
    super(parts.fallback);
    const { device, limits, variants } = parts;
    this.#parts = parts;
    this.device = device;
    this.#pool = new BufferPool(device, device.limits.maxBufferSize);
    this.#queue = new CommandQueue(device, this.#pool);
    this.#pipelines = new PipelineCache(device);
    this.#recorder = new Recorder(this.#queue, this.#pipelines, this.#pool, limits);
    this.#readback = new Readback(device);
    this.#watch = new DeviceWatch(device, () => this.disposed);
    this.#variants = new VariantChoices(this, variants, () => !this.disposed && !this.#watch.lost);
    this.capabilities = {
      threads: 1,
      device: parts.description,
      f16: variants.f16,
      f64: false,
      dot4: variants.dot4,
      subgroups: variants.subgroups,
      limits: { ...limits, maxBufferSize: device.limits.maxBufferSize },
    };
  }

  /** Variants that gave a wrong result on this device and are not used. */
  get disabledVariants(): readonly DisabledVariant[] {
    return this.#variants.disabled;
  }

  /**
   * Tests the variants of ops now, so that their first call already runs the fastest right one. An op that was not prepared runs its plain
   * shader until its test, started by the first call, is through.
   */
  async prepare(ops: readonly AnyOp[]): Promise<void> {
    for (const op of ops) await this.#variants.tested(op);
  }

  allocate(bytes: number): BufferHandle {
    this.assertAlive();
    const buffer = new GpuBuffer(this.#pool.take(bytes), bytes);
    this.#live.add(buffer);
    this.#capture?.allocated(buffer);
    return buffer;
  }

  /** Keeps the commands of the step's first run and encodes them again with other inputs, in one submission. */
  override record<In extends readonly Tensor[], Out>(step: (...inputs: In) => Out): Recording<In, Out> {
    return new WebGpuRecording<In, Out>(
      {
        variants: this.#variants,
        alignment: this.#parts.limits.alignment,
        assertAlive: () => {
          this.assertAlive();
        },
        signal: () => this.signal,
        capturing: () => this.#capture !== undefined,
        together: (run) => this.#queue.together(run),
        capture: (given, run) => this.#captured(given, run),
        adopt: (bytes) => new Storage(this, this.allocate(bytes), bytes),
        build: (recorded, slots) => {
          const program = new ReplayProgram({ backend: this, device: this.device, queue: this.#queue }, recorded, slots);
          this.#programs.add(program);
          return program;
        },
        replay: (program, given, made) => {
          const { signal } = this;
          this.enqueue(() => {
            if (!this.disposed) program.replay(given, made, signal);
          });
        },
        retire: (program) => {
          this.enqueue(() => {
            if (!this.#programs.delete(program)) return;
            // What is recorded and not submitted uses its buffers.
            this.#queue.flush();
            program.dispose();
          });
        },
      },
      step,
    );
  }

  memory(): MemoryUse {
    return {
      liveBytes: this.#pool.liveBytes,
      peakBytes: this.#pool.peakBytes,
      buffers: this.#pool.count,
      mappedBytes: 0,
      pooledBytes: this.#pool.pooledBytes,
    };
  }

  flush(): void {
    this.assertAlive();
    this.#queue.flush();
  }

  dispose(): void {
    if (this.disposed) return;
    this.disposed = true;
    this.#queue.dispose();
    for (const program of this.#programs) program.dispose();
    this.#programs.clear();
    for (const { pooled } of this.#live) pooled.gpu.destroy();
    this.#live.clear();
    this.#pool.dispose();
    this.#readback.dispose();
    if (this.#parts.ownsDevice) this.device.destroy();
  }

  protected override assertAlive(): void {
    super.assertAlive();
    if (this.#watch.lost) throw this.#watch.lost;
  }

  protected releaseNow(handle: BufferHandle): void {
    if (!(handle instanceof GpuBuffer) || handle.released) return;
    handle.released = true;
    this.#capture?.released(handle);
    this.#live.delete(handle);
    this.#pool.give(handle.pooled, handle.bytes);
  }

  protected writeNow(storage: Storage, byteOffset: number, data: Uint8Array): void {
    if (this.#capture) this.#capture.repeatable = false;
    const buffer = bufferOf(storage);
    const toEnd = byteOffset + data.length === storage.bytes;
    if (byteOffset % 4 !== 0 || (data.length % 4 !== 0 && !toEnd)) {
      // Not whole words: through a buffer of its own, from which a shader copies bytes.
      const part = this.#pool.take(data.length);
      this.#upload(part, 0, data, [storage]);
      this.#recorder.copyBytes({ buffer: part, byteOffset: 0 }, { buffer, byteOffset }, data.length);
      this.#pool.give(part, data.length);
      return;
    }
    this.#upload(buffer, byteOffset, data, [storage]);
  }

  protected async readNow(storage: Storage, byteOffset: number, bytes: number): Promise<Uint8Array> {
    if (this.#capture) this.#capture.repeatable = false;
    if (bytes === 0) {
      await this.#confirmed(storage);
      return new Uint8Array(0);
    }
    const start = byteOffset - (byteOffset % 4);
    const length = Math.ceil((byteOffset + bytes - start) / 4) * 4;
    const staging = this.#readback.take(length);
    const from = bufferOf(storage);
    from.usedInBatch = this.#queue.batch;
    const copy = { kind: 'read' as const, from, fromOffset: start, to: staging, bytes: length };
    this.#queue.add({
      name: 'read',
      variant: undefined,
      shapes: `${length} bytes`,
      reads: [storage],
      writes: [],
      signal: undefined,
      commands: [copy],
      probe: true,
    });
    // Reads that are asked for together go with one submission, that of what they read.
    await Promise.resolve();
    this.#queue.flush();
    const mapped = this.#readback.bytes(staging, byteOffset - start, bytes);
    mapped.catch(() => undefined);
    await this.#confirmed(storage);
    return this.#watch.orLost(mapped);
  }

  protected hasKernel(op: AnyOp): boolean {
    if (this.#capture && op.webgpu === undefined) this.#capture.repeatable = false;
    return op.webgpu !== undefined;
  }

  protected dispatch(call: OpCall): void {
    const { op } = call;
    if (!op.webgpu) return;
    const writes = [...call.outputs, ...call.inputs.filter((_, index) => op.mutates.includes(op.inputs[index]))]
      .filter((tensor) => tensor !== undefined)
      .map((tensor) => tensor.storage);
    const failed = call.inputs.map((tensor) => tensor && failureOf(tensor.storage)).find((failure) => failure !== undefined);
    const probe = this.#variants.testing;
    const variant = this.#variants.of(op);
    this.#capture?.called(call, variant);
    if (failed) {
      if (this.#capture) this.#capture.failed = true;
      this.#queue.poison(writes, failed, probe);
      return;
    }
    try {
      this.#recorder.record(call, op.webgpu, variant, probe);
    } catch (error) {
      const failure =
        error instanceof FiligreeError
          ? error
          : new ExecutionError(`${op.name} could not be queued: ${error instanceof Error ? error.message : String(error)}`, {
              cause: error,
            });
      if (this.#capture) this.#capture.failed = true;
      this.#queue.poison(writes, failure, probe);
    }
  }

  protected async syncNow(): Promise<void> {
    this.assertAlive();
    this.#queue.flush();
    await this.#watch.orLost(this.device.queue.onSubmittedWorkDone());
    await this.#watch.orLost(this.#queue.settled());
    const failure = this.#queue.takeFailure();
    if (failure) throw failure;
  }

  protected async readyNow(): Promise<void> {
    this.assertAlive();
    await this.#watch.orLost(this.#queue.ready());
  }

  protected startProfile(): void {
    this.#queue.startProfile(this.device.features.has('timestamp-query'));
  }

  protected stopProfile(): Promise<ProfileEntry[]> {
    return this.#watch.orLost(this.#queue.stopProfile());
  }

  #captured<T>(given: readonly Tensor[], run: () => T): { result: T; capture: Capture | undefined } {
    // What a step inside of another one does is the outer one's; behind a fallback nothing is queued yet.
    if (this.#capture || this.waiting) return { result: run(), capture: undefined };
    const capture = new Capture(given, this.signal);
    this.#capture = capture;
    this.#queue.watcher = (op) => {
      capture.queued(op, this.#queue.uniforms);
    };
    try {
      return { result: withViewsOf(capture.views, run), capture };
    } finally {
      this.#capture = undefined;
      this.#queue.watcher = undefined;
    }
  }

  /** Puts bytes into a buffer, behind what is recorded. */
  #upload(buffer: ReturnType<typeof bufferOf>, byteOffset: number, data: Uint8Array, poisons: readonly Storage[]): void {
    if (buffer.usedInBatch === this.#queue.batch) this.#queue.flush();
    const { queue } = this.device;
    this.device.pushErrorScope('validation');
    const whole = data.length - (data.length % 4);
    if (whole > 0) queue.writeBuffer(buffer.gpu, byteOffset, data, 0, whole);
    if (whole < data.length) {
      const last = new Uint8Array(4);
      last.set(data.subarray(whole));
      queue.writeBuffer(buffer.gpu, byteOffset + whole, last);
    }
    void this.device.popErrorScope().then(
      (error) => {
        if (error) this.#queue.poison(poisons, new ExecutionError(`write of ${data.length} bytes failed: ${error.message}`));
      },
      () => undefined,
    );
  }

  /** Waits for the device's verdict on what is queued; throws when `storage` depends on a failure. */
  async #confirmed(storage: Storage): Promise<void> {
    this.#queue.flush();
    await this.#watch.orLost(this.#queue.settled());
    const failure = failureOf(storage);
    if (failure) throw failure;
  }
}
