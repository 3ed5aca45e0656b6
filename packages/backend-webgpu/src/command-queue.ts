import { AbortError, ExecutionError, type FiligreeError, type ProfileEntry, type Storage } from '@filigree/core-tensor';
import type { BufferPool } from './buffer-pool.js';
import type { BoundDispatch, BoundRange, Command, DispatchCommand, QueuedOp } from './commands.js';
import { failureOf } from './gpu-buffer.js';
import type { Pipeline } from './pipeline-cache.js';
import { Profiler, type BatchProfile } from './profiler.js';
import { blockBytes, UniformRing } from './uniform-ring.js';

/** Ops of one command buffer outside of {@link CommandQueue.together}: enough to make submitting cheap, few enough that the device starts early. */
const opsPerBatch = 64;
/** Ops handed to the device beyond which `ready()` waits. */
const opsInFlight = 1024;
const bindGroupsKept = 4096;

/**
 * Records ops, encodes them into command buffers and hands those to the device, in order. An op whose pipeline or buffers the device has not
 * confirmed yet goes in a command buffer of its own, so that its failure takes nothing else with it.
 */
export class CommandQueue {
  readonly uniforms: UniformRing;
  /** Number of the batch being recorded. */
  batch = 0;
  /** Is told of every op that is added. */
  watcher: ((op: QueuedOp) => void) | undefined;
  #ops: QueuedOp[] = [];
  #together = false;
  /** Recorded ops that are part of nothing that goes together. */
  #loose = 0;
  #settled: Promise<void> = Promise.resolve();
  #failure: FiligreeError | undefined;
  #anyFailed = false;
  #profiler: Profiler | undefined;
  #submittedOps = 0;
  #doneOps = 0;
  readonly #bindGroups = new Map<string, GPUBindGroup>();

  constructor(
    private readonly device: GPUDevice,
    private readonly pool: BufferPool,
  ) {
    this.uniforms = new UniformRing(device);
  }

  /** Whether every op is measured. */
  get profiling(): boolean {
    return this.#profiler !== undefined;
  }

  add(op: QueuedOp): void {
    this.watcher?.(op);
    const alone = op.commands.some((command) => !isConfirmed(command));
    if (alone) this.flush();
    this.#ops.push(op);
    if (!this.#together) this.#loose++;
    if (alone || this.#loose >= opsPerBatch || this.uniforms.full || this.#profiler?.timestamps === false) this.flush();
    else if (this.#ops.length === 1)
      queueMicrotask(() => {
        this.flush();
      });
  }

  /** What `queue` queues goes with one submission, where the uniform ring holds it: a step of a loop whose next step is queued while it runs. */
  together<T>(queue: () => T): T {
    const outer = this.#together;
    this.#together = true;
    try {
      return queue();
    } finally {
      this.#together = outer;
    }
  }

  /** Encodes and submits what is recorded. */
  flush(): void {
    const recorded = this.#ops;
    if (recorded.length === 0) return;
    this.#ops = [];
    this.#loose = 0;
    this.batch++;
    const ops = recorded.filter((op) => !this.#dropped(op));
    const { device } = this;
    this.uniforms.upload();
    if (ops.length === 0) return;
    device.pushErrorScope('validation');
    device.pushErrorScope('out-of-memory');
    device.pushErrorScope('internal');
    const profile = this.#profiler?.begin(ops);
    device.queue.submit([this.#encode(ops, profile)]);
    profile?.submitted();
    const scopes = Promise.all([device.popErrorScope(), device.popErrorScope(), device.popErrorScope()]);
    // A replay is as many as it has commands.
    for (const { commands } of ops) this.#submittedOps += Math.max(1, commands.length);
    this.pool.trim();
    this.#settled = this.#settled
      .then(() => scopes)
      .then(
        (errors) => {
          this.#settle(ops, errors.find((error) => error !== null)?.message);
        },
        // The device is lost: the backend rejects what is pending.
        () => undefined,
      );
  }

  /** Resolves when the device has accepted or refused everything submitted so far. */
  settled(): Promise<void> {
    return this.#settled;
  }

  /** Waits when the device is far behind. */
  async ready(): Promise<void> {
    this.flush();
    if (this.#submittedOps - this.#doneOps < opsInFlight) return;
    const submitted = this.#submittedOps;
    await this.device.queue.onSubmittedWorkDone();
    this.#doneOps = Math.max(this.#doneOps, submitted);
  }

  /** Marks results as failed; reads of them and of what depends on them reject. */
  poison(storages: readonly Storage[], failure: FiligreeError, probe = false): void {
    this.#anyFailed = true;
    // Aborted work was dropped because somebody asked for it.
    if (!probe && !(failure instanceof AbortError)) this.#failure ??= failure;
    for (const storage of storages) storage.poison ??= failure;
  }

  /** The first failure since the last call. */
  takeFailure(): FiligreeError | undefined {
    const failure = this.#failure;
    this.#failure = undefined;
    return failure;
  }

  startProfile(timestamps: boolean): void {
    this.flush();
    this.#profiler = new Profiler(this.device, timestamps);
  }

  async stopProfile(): Promise<ProfileEntry[]> {
    this.flush();
    const profiler = this.#profiler;
    this.#profiler = undefined;
    return (await profiler?.entries()) ?? [];
  }

  /** Ranges as a pipeline takes them, and behind them blocks of `uniforms`. */
  bindGroup({ layout }: Pipeline, bindings: readonly BoundRange[], uniforms: GPUBuffer): GPUBindGroup {
    const storage = bindings.map(({ buffer, offset, size }, binding) => ({
      binding,
      resource: { buffer: buffer.gpu, offset, size },
    }));
    const block = { binding: bindings.length, resource: { buffer: uniforms, offset: 0, size: blockBytes } };
    return this.device.createBindGroup({ layout, entries: [...storage, block] });
  }

  dispose(): void {
    this.#ops = [];
    this.#bindGroups.clear();
    this.uniforms.dispose();
  }

  /** True for ops that are not to run: aborted, or behind a failure. Their results are marked. */
  #dropped(op: QueuedOp): boolean {
    if (op.signal?.aborted) {
      this.poison(op.writes, new AbortError(undefined, { cause: op.signal.reason }), op.probe);
      return true;
    }
    return this.#anyFailed && this.#inherit(op);
  }

  /** Passes the failure of an input on to the results. */
  #inherit(op: QueuedOp): boolean {
    const failed = [...op.reads, ...op.writes].map(failureOf).find((failure) => failure !== undefined);
    if (failed) this.poison(op.writes, failed, op.probe);
    return failed !== undefined;
  }

  #settle(ops: readonly QueuedOp[], message: string | undefined): void {
    for (const op of ops) {
      if (message !== undefined && op.commands.length > 0) {
        const failure = new ExecutionError(`${op.name} failed on ${op.shapes}: ${pipelineMessage(op.commands) ?? message}`);
        this.poison(op.writes, failure, op.probe);
      } else if (this.#anyFailed) this.#inherit(op);
    }
  }

  #encode(ops: readonly QueuedOp[], profile: BatchProfile | undefined): GPUCommandBuffer {
    const encoder = this.device.createCommandEncoder();
    let pass: GPUComputePassEncoder | undefined;
    const end = (): void => {
      pass?.end();
      pass = undefined;
    };
    for (const [index, op] of ops.entries()) {
      // While profiling every op has a pass of its own; an empty one times ops without commands.
      let stamps = profile?.writes(index);
      const begin = (): GPUComputePassEncoder => {
        const made = encoder.beginComputePass(stamps ? { timestampWrites: stamps } : {});
        stamps = undefined;
        return made;
      };
      if (stamps) end();
      for (const command of op.commands) {
        if (command.kind === 'copy') {
          end();
          encoder.copyBufferToBuffer(command.from.gpu, command.fromOffset, command.to.gpu, command.toOffset, command.bytes);
        } else if (command.kind === 'read') {
          end();
          encoder.copyBufferToBuffer(command.from.gpu, command.fromOffset, command.to, 0, command.bytes);
        } else {
          pass ??= begin();
          this.#dispatch(pass, command);
        }
      }
      if (stamps) begin().end();
    }
    end();
    profile?.resolve(encoder);
    return encoder.finish();
  }

  #dispatch(pass: GPUComputePassEncoder, command: DispatchCommand | BoundDispatch): void {
    if (command.kind === 'bound') {
      pass.setPipeline(command.pipeline);
      pass.setBindGroup(0, command.group, command.offsets);
    } else {
      pass.setPipeline(command.pipeline.gpu);
      pass.setBindGroup(0, this.#cachedGroup(command), [command.block]);
    }
    pass.dispatchWorkgroups(...command.workgroups);
  }

  /** Steady loops bind the same buffers again and again. */
  #cachedGroup({ pipeline, bindings }: DispatchCommand): GPUBindGroup {
    let key = String(pipeline.id);
    for (const { buffer, offset, size } of bindings) key += `|${buffer.id},${offset},${size}`;
    const known = this.#bindGroups.get(key);
    if (known) return known;
    if (this.#bindGroups.size >= bindGroupsKept) this.#bindGroups.clear();
    const group = this.bindGroup(pipeline, bindings, this.uniforms.buffer);
    this.#bindGroups.set(key, group);
    return group;
  }
}

/** True when the device has already accepted the pipeline and the buffers of a command. */
function isConfirmed(command: Command): boolean {
  switch (command.kind) {
    case 'dispatch':
      return command.pipeline.settled && command.bindings.every(({ buffer }) => buffer.settled);
    case 'copy':
      return command.from.settled && command.to.settled;
    case 'read':
      return command.from.settled;
    case 'bound':
      return true;
  }
}

/** What the compiler said, where a pipeline of the op is the reason. */
function pipelineMessage(commands: readonly Command[]): string | undefined {
  for (const command of commands) {
    if (command.kind === 'dispatch' && command.pipeline.failure !== undefined) return command.pipeline.failure;
  }
  return undefined;
}
