import { Storage, type Backend, type BufferHandle, type FiligreeError, type Tensor } from '@filigree/core-tensor';
import type { PooledBuffer } from './buffer-pool.js';
import type { CapturedDispatch } from './capture.js';
import type { CommandQueue } from './command-queue.js';
import type { BoundDispatch, BoundRange, CopyCommand, QueuedOp } from './commands.js';
import { usage } from './flags.js';
import { bufferOf, failureOf } from './gpu-buffer.js';
import { copiesInto, isInPlace, isOnWords, type InputSlot } from './input-slots.js';
import type { RecordedStep } from './recorded-step.js';
import { blockBytes } from './uniform-ring.js';

/** Where bytes of a buffer of the captured run lie in a replay. */
interface Moved {
  readonly buffer: PooledBuffer;
  /** Bytes of the captured buffer that are left out before them. */
  readonly start: number;
}

export interface ProgramParts {
  readonly backend: Backend;
  readonly device: GPUDevice;
  readonly queue: CommandQueue;
}

type ReplayedOp = Pick<QueuedOp, 'name' | 'variant' | 'shapes'> & {
  readonly commands: readonly (BoundDispatch | CopyCommand)[];
};

/**
 * The commands of a recorded step as they are encoded at every replay: bind groups made, uniform blocks on the device, intermediates in buffers
 * of its own. Inputs that change are copied in, results are copied out.
 */
export class ReplayProgram {
  /** What failed when the device made it; known some time later. */
  failure: string | undefined;
  /** Buffers of the recording, by those of the captured run. */
  readonly #own = new Map<object, Storage>();
  readonly #moved = new Map<object, Moved>();
  readonly #outside: readonly PooledBuffer[];
  readonly #mutated: ReadonlySet<Storage>;
  readonly #ops: readonly ReplayedOp[];
  /** The same as one. */
  readonly #commands: readonly (BoundDispatch | CopyCommand)[];
  readonly #uniforms: GPUBuffer;

  constructor(
    private readonly parts: ProgramParts,
    private readonly step: RecordedStep,
    private readonly slots: readonly InputSlot[],
  ) {
    const { device } = parts;
    this.#outside = step.outside.map(bufferOf);
    this.#mutated = new Set(step.mutated);
    for (const buffer of this.#outside) this.#moved.set(buffer, { buffer, start: 0 });
    try {
      for (const slot of slots) {
        if (slot.bound) this.#moved.set(slot.buffer, { buffer: slot.buffer, start: 0 });
        else this.#take(slot.buffer, slot.bytes, slot.start);
      }
      for (const { buffer } of step.results) this.#take(buffer, buffer.size, 0);
    } catch (error) {
      for (const storage of this.#own.values()) storage.release();
      throw error;
    }
    device.pushErrorScope('validation');
    device.pushErrorScope('out-of-memory');
    const dispatches = step.ops.flatMap(({ commands }) => commands.filter((command) => command.kind === 'dispatch'));
    this.#uniforms = this.#upload(dispatches);
    const groups = new Map<string, GPUBindGroup>();
    let block = 0;
    this.#ops = step.ops.map(({ name, variant, shapes, commands }) => ({
      name,
      variant,
      shapes,
      commands: commands.map((command) =>
        command.kind === 'copy' ? this.#copy(command) : this.#dispatch(command, blockBytes * block++, groups),
      ),
    }));
    this.#commands = this.#ops.flatMap(({ commands }) => commands);
    void Promise.all([device.popErrorScope(), device.popErrorScope()]).then(
      (errors) => {
        this.failure = errors.find((error) => error !== null)?.message;
      },
      // A lost device answers no scope; whoever uses the backend learns of the loss itself.
      () => undefined,
    );
  }

  /** Whether the device has made all its buffers. */
  get settled(): boolean {
    return [...this.#own.values()].every((storage) => bufferOf(storage).settled);
  }

  /** Why it cannot run any more. */
  get broken(): boolean {
    return this.failure !== undefined || [...this.#own.values()].some((storage) => failureOf(storage) !== undefined);
  }

  /** Inputs that have to be copied in, and are bound. */
  displaced(given: readonly Tensor[]): number[] {
    const { inputs } = this.step;
    return this.slots.filter((slot) => slot.bound && !isInPlace(slot, inputs, given)).flatMap(({ members }) => members);
  }

  /** Whether copies of words can bring the inputs to where the commands expect them. */
  accepts(given: readonly Tensor[]): boolean {
    const { inputs } = this.step;
    return this.slots.every(({ bound, members }) => bound || members.every((index) => isOnWords(inputs[index], given[index])));
  }

  /** Queues the commands. `made`: the buffers of this replay's results, by those of the captured run. */
  replay(given: readonly Tensor[], made: ReadonlyMap<BufferHandle, Storage>, signal: AbortSignal | undefined): void {
    const { inputs, outside, results } = this.step;
    const moving = this.slots.filter(({ bound }) => !bound);
    const reads = [...given.map(({ storage }) => storage), ...outside];
    const written = given.map(({ storage }) => storage).filter((_, index) => inputs[index].writes > 0);
    const writes = [...made.values(), ...this.#mutated, ...written];
    const failure = firstFailure(reads);
    if (failure) {
      this.parts.queue.poison(writes, failure);
      return;
    }
    const copiesIn = moving.flatMap((slot) => copiesInto(this.#ownOf(slot.buffer), slot, inputs, given));
    const copiesOut = results
      .filter(({ bytes }) => bytes > 0)
      .map(({ handle, buffer, bytes }) => copyOut(this.#ownOf(buffer), made.get(handle), bytes));
    const shared = { reads, writes, signal, probe: false };
    const add = (op: ReplayedOp): void => {
      if (op.commands.length > 0 || op.variant !== undefined) this.parts.queue.add({ ...op, ...shared });
    };
    const queue = (): void => {
      add({ name: 'a recorded step', variant: undefined, shapes: 'its inputs', commands: copiesIn });
      if (this.parts.queue.profiling) this.#ops.forEach(add);
      else add({ name: 'a recorded step', variant: undefined, shapes: this.#shapes(), commands: this.#commands });
      add({ name: 'a recorded step', variant: undefined, shapes: 'its results', commands: copiesOut });
    };
    // Every op of a profile has timestamps of its own, of which a batch holds a few.
    if (this.parts.queue.profiling) queue();
    else this.parts.queue.together(queue);
    const { batch } = this.parts.queue;
    for (const buffer of this.#outside) buffer.usedInBatch = batch;
    for (const { storage } of given) bufferOf(storage).usedInBatch = batch;
    for (const storage of made.values()) bufferOf(storage).usedInBatch = batch;
  }

  /** Gives its buffers back; call when none of its commands is queued. */
  dispose(): void {
    for (const storage of this.#own.values()) storage.release();
    this.#own.clear();
    this.#uniforms.destroy();
  }

  #shapes(): string {
    return this.step.inputs.map(({ shape, dtype }) => `${dtype} [${shape.join(', ')}]`).join(', ');
  }

  /** A buffer of the recording in place of one of the captured run. */
  #take(captured: PooledBuffer, bytes: number, start: number): void {
    if (this.#own.has(captured)) return;
    const storage = new Storage(this.parts.backend, this.parts.backend.allocate(bytes), bytes);
    this.#own.set(captured, storage);
    this.#moved.set(captured, { buffer: bufferOf(storage), start });
  }

  #ownOf(captured: PooledBuffer): PooledBuffer {
    return this.#movedOf(captured).buffer;
  }

  #movedOf(captured: PooledBuffer): Moved {
    if (!this.#moved.has(captured)) this.#take(captured, captured.size, 0);
    const moved = this.#moved.get(captured);
    if (!moved) throw new TypeError('a captured buffer has no place');
    return moved;
  }

  #upload(dispatches: readonly CapturedDispatch[]): GPUBuffer {
    const bytes = new Uint8Array(blockBytes * Math.max(1, dispatches.length));
    for (const [index, { block }] of dispatches.entries()) bytes.set(block, blockBytes * index);
    const buffer = this.parts.device.createBuffer({
      label: 'filigree recording',
      size: bytes.length,
      usage: usage.uniform | usage.copyTarget,
    });
    this.parts.device.queue.writeBuffer(buffer, 0, bytes);
    return buffer;
  }

  #copy(command: CopyCommand): CopyCommand {
    const from = this.#movedOf(command.from);
    const to = this.#movedOf(command.to);
    return {
      ...command,
      from: from.buffer,
      fromOffset: command.fromOffset - from.start,
      to: to.buffer,
      toOffset: command.toOffset - to.start,
    };
  }

  #dispatch({ command }: CapturedDispatch, block: number, groups: Map<string, GPUBindGroup>): BoundDispatch {
    const { pipeline, workgroups } = command;
    const bindings = command.bindings.map((range) => this.#move(range));
    const key = [pipeline.id, ...bindings.map(({ buffer, offset, size }) => `${buffer.id},${offset},${size}`)].join('|');
    let group = groups.get(key);
    if (!group) groups.set(key, (group = this.parts.queue.bindGroup(pipeline, bindings, this.#uniforms)));
    return { kind: 'bound', pipeline: pipeline.gpu, group, offsets: [block], workgroups };
  }

  #move({ buffer, offset, size }: BoundRange): BoundRange {
    const moved = this.#movedOf(buffer);
    // What has no elements is bound at the start of its buffer, wherever it lies.
    return { buffer: moved.buffer, offset: Math.max(0, offset - moved.start), size };
  }
}

function firstFailure(storages: readonly Storage[]): FiligreeError | undefined {
  for (const storage of storages) {
    const failure = failureOf(storage);
    if (failure) return failure;
  }
  return undefined;
}

function copyOut(from: PooledBuffer, to: Storage | undefined, bytes: number): CopyCommand {
  if (!to) throw new TypeError('a result of a recorded step has no buffer');
  return { kind: 'copy', from, fromOffset: 0, to: bufferOf(to), toOffset: 0, bytes: Math.ceil(bytes / 4) * 4 };
}
