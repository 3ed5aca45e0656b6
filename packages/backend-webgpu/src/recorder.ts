import {
  byteSize,
  ExecutionError,
  formatShape,
  inputNames,
  type BindingRanges,
  type OpCall,
  type ShaderVariant,
  type Tensor,
  type TensorMeta,
  type WebGpuDispatch,
  type WebGpuKernel,
  type WebGpuLimits,
} from '@filigree/core-tensor';
import copyShader from '@filigree/wgsl/backend-webgpu/copy-bytes.wgsl';
import type { BufferPool, PooledBuffer } from './buffer-pool.js';
import type { CommandQueue } from './command-queue.js';
import type { BoundRange, Command } from './commands.js';
import { bufferOf } from './gpu-buffer.js';
import type { PipelineCache } from './pipeline-cache.js';
import { variantName } from './variants.js';

/** A tensor as an op sees it: where its bytes lie, and whether the op writes them. */
interface Argument {
  readonly name: string;
  readonly buffer: PooledBuffer;
  readonly byteOffset: number;
  readonly bytes: number;
  readonly elementBytes: number;
  readonly writable: boolean;
}

export interface RecorderLimits extends WebGpuLimits {
  /** Offsets of bindings are multiples of this. */
  readonly alignment: number;
  /** The binding limit itself; the one in `maxStorageBufferBindingSize` leaves room for aligning. */
  readonly bindingBytes: number;
  /** How many workgroups the device takes along y. */
  readonly maxGroupsY: number;
}

/** Turns a call into commands: plans it, aligns its bindings, copies what cannot be bound as it lies. */
export class Recorder {
  constructor(
    private readonly queue: CommandQueue,
    private readonly pipelines: PipelineCache,
    private readonly pool: BufferPool,
    private readonly limits: RecorderLimits,
  ) {}

  /** Queues the op. @throws ExecutionError when it cannot be run on this device; nothing is queued then. */
  record(call: OpCall, kernel: WebGpuKernel, variant: ShaderVariant, probe: boolean): void {
    const { op } = call;
    const names = inputNames(op);
    const present = [
      ...call.inputs.map((tensor, index) => ({ name: names[index], tensor, writable: op.mutates.includes(names[index]) })),
      ...call.outputs.map((tensor, index) => ({ name: op.outputs[index], tensor, writable: true })),
    ].filter((argument): argument is { name: string; tensor: Tensor; writable: boolean } => argument.tensor !== undefined);
    const io: Readonly<Record<string, TensorMeta>> = Object.fromEntries(present.map(({ name, tensor }) => [name, tensor]));
    const dispatches = kernel
      .plan(io, call.attributes, this.limits, variant)
      .filter(({ workgroups }) => workgroups.every((count) => count !== 0));
    const commands = new CommandList(this.queue, {
      name: op.name,
      variant: variantName(variant),
      shapes: present.map(({ name, tensor }) => `${name} ${formatShape(tensor.shape)}`).join(', '),
      reads: present.filter(({ writable }) => !writable).map(({ tensor }) => tensor.storage),
      writes: present.filter(({ writable }) => writable).map(({ tensor }) => tensor.storage),
      signal: call.signal,
      probe,
    });
    if (dispatches.length > 0) {
      const shader = kernel.shader(variant, io, call.attributes);
      const placed = this.#place(present.map(argumentOf), commands);
      const scratch = this.#scratch(kernel.scratch?.(io, call.attributes, this.limits, variant) ?? 0);
      try {
        const bound = [...placed.arguments, ...scratch];
        for (const dispatch of dispatches) this.#dispatch(op.name, shader, dispatch, bound, commands);
        placed.writeBack();
      } finally {
        placed.giveBack();
        for (const { buffer, bytes } of scratch) this.pool.give(buffer, bytes);
      }
    }
    commands.end();
  }

  /** Queues a copy of bytes at any alignment. */
  copyBytes(
    from: { buffer: PooledBuffer; byteOffset: number },
    to: { buffer: PooledBuffer; byteOffset: number },
    bytes: number,
  ): void {
    const commands = new CommandList(this.queue, ownCopy);
    this.#copyBytes(from, to, bytes, commands);
    commands.end();
  }

  /** Arguments as they can be bound: those that cannot be bound as they lie are copied. */
  #place(given: readonly Argument[], commands: CommandList): { arguments: Argument[]; writeBack(): void; giveBack(): void } {
    const copies: { argument: Argument; own: { buffer: PooledBuffer; byteOffset: number } }[] = [];
    const placed = given.map((argument) => {
      const onWord = argument.byteOffset % 4 === 0;
      // A buffer may not be bound for reading and for writing at once, whatever the ranges.
      const shared = !argument.writable && given.some((other) => other.writable && other.buffer === argument.buffer);
      if (argument.bytes === 0 || (onWord && !shared)) return argument;
      const own = { buffer: this.pool.take(argument.bytes), byteOffset: 0 };
      copies.push({ argument, own });
      if (onWord) commands.push(wholeCopy(argument, own.buffer));
      else this.#copyBytes(argument, own, argument.bytes, commands);
      return { ...argument, ...own };
    });
    return {
      arguments: placed,
      writeBack: () => {
        for (const { argument, own } of copies) if (argument.writable) this.#copyBytes(own, argument, argument.bytes, commands);
      },
      giveBack: () => {
        for (const { argument, own } of copies) this.pool.give(own.buffer, argument.bytes);
      },
    };
  }

  /** A workspace as an argument; none for no bytes. */
  #scratch(bytes: number): Argument[] {
    if (bytes === 0) return [];
    return [{ name: 'scratch', buffer: this.pool.take(bytes), byteOffset: 0, bytes, elementBytes: 4, writable: true }];
  }

  #dispatch(op: string, shader: string, dispatch: WebGpuDispatch, given: readonly Argument[], commands: CommandList): void {
    const pipeline = this.pipelines.get({
      label: op,
      shader,
      entryPoint: dispatch.entryPoint ?? 'main',
      constants: dispatch.constants ?? {},
      writable: given.map(({ writable }) => writable),
    });
    if (pipeline.failure !== undefined)
      throw new ExecutionError(`${op}: its shader was refused by the device: ${pipeline.failure}`);
    const parts = given.map((argument) => this.#bind(op, argument, dispatch.ranges));
    commands.makeRoom();
    const block = this.queue.uniforms.put(
      op,
      parts.map(({ element }) => element),
      dispatch.uniforms ?? [],
    );
    const bindings = parts.map(({ range }) => range);
    commands.push({ kind: 'dispatch', pipeline, bindings, block, workgroups: this.#fold(op, dispatch.workgroups) });
  }

  /** The aligned binding of an argument's range and the element at which the range starts in it. */
  #bind(op: string, argument: Argument, ranges: BindingRanges | undefined): { range: BoundRange; element: number } {
    // A tensor without elements may start at the end of its buffer, where nothing can be bound; no shader reads it.
    if (argument.bytes === 0) return { range: { buffer: argument.buffer, offset: 0, size: 4 }, element: 0 };
    const wanted = ranges?.[argument.name] ?? { byteOffset: 0, byteLength: argument.bytes };
    const start = argument.byteOffset + wanted.byteOffset;
    const offset = start - (start % this.limits.alignment);
    const size = Math.max(4, roundUp(start + wanted.byteLength - offset, 4));
    if (size > this.limits.bindingBytes) {
      throw new ExecutionError(
        `${op}: ${argument.name} needs ${wanted.byteLength} bytes in one binding, the device allows ${this.limits.maxStorageBufferBindingSize}`,
      );
    }
    return { range: { buffer: argument.buffer, offset, size }, element: (start - offset) / argument.elementBytes };
  }

  /** Folds workgroups beyond the limit along x into y, in rows of equal length. */
  #fold(op: string, [x, y = 1, z = 1]: WebGpuDispatch['workgroups']): [number, number, number] {
    const limit = this.limits.maxComputeWorkgroupsPerDimension;
    if (x <= limit) return [x, y, z];
    const rows = Math.ceil(x / limit);
    if (y !== 1 || rows > this.limits.maxGroupsY)
      throw new ExecutionError(`${op}: ${x} × ${y} workgroups are more than the device takes (${limit} along x)`);
    return [Math.ceil(x / rows), rows, z];
  }

  #copyBytes(
    from: { buffer: PooledBuffer; byteOffset: number },
    to: { buffer: PooledBuffer; byteOffset: number },
    bytes: number,
    commands: CommandList,
  ): void {
    const step = Math.max(64, Math.floor((this.limits.maxStorageBufferBindingSize - 8) / 64) * 64);
    for (let at = 0; at < bytes; at += step) {
      const count = Math.min(step, bytes - at);
      const argument = (name: string, { buffer, byteOffset }: { buffer: PooledBuffer; byteOffset: number }): Argument => {
        const word = byteOffset + at - ((byteOffset + at) % 4);
        const whole = Math.min(count + 4, buffer.size - word);
        return { name, buffer, byteOffset: word, bytes: whole, elementBytes: 1, writable: name === 'result' };
      };
      const extra = [count, (from.byteOffset + at) % 4, (to.byteOffset + at) % 4];
      const dispatch: WebGpuDispatch = {
        workgroups: [Math.ceil((count / 4 + 1) / 64)],
        uniforms: extra.map((value) => ({ type: 'u32', value })),
      };
      this.#dispatch('copy-bytes', copyShader, dispatch, [argument('source', from), argument('result', to)], commands);
    }
  }
}

const ownCopy = {
  name: 'copy',
  variant: undefined,
  shapes: 'bytes',
  reads: [],
  writes: [],
  signal: undefined,
  probe: false,
} as const;

/** The commands of one op; split over batches where one does not hold them. */
class CommandList {
  #commands: Command[] = [];
  #parts = 0;

  constructor(
    private readonly queue: CommandQueue,
    private readonly op: Omit<Parameters<CommandQueue['add']>[0], 'commands'>,
  ) {}

  push(command: Command): void {
    this.#commands.push(command);
    const { batch } = this.queue;
    if (command.kind === 'dispatch') for (const { buffer } of command.bindings) buffer.usedInBatch = batch;
    else if (command.kind === 'copy') command.from.usedInBatch = batch;
  }

  /** Called before a block is put into the uniform ring. */
  makeRoom(): void {
    if (!this.queue.uniforms.full) return;
    this.#hand();
    this.queue.flush();
  }

  end(): void {
    this.#hand();
  }

  #hand(): void {
    // The profile counts an op once, with the time of its first part.
    const variant = this.#parts === 0 ? this.op.variant : undefined;
    this.queue.add({ ...this.op, variant, commands: this.#commands });
    this.#commands = [];
    this.#parts++;
  }
}

function argumentOf({ name, tensor, writable }: { name: string; tensor: Tensor; writable: boolean }): Argument {
  return {
    name,
    buffer: bufferOf(tensor.storage),
    byteOffset: tensor.byteOffset,
    bytes: tensor.bytes,
    elementBytes: byteSize(tensor.dtype),
    writable,
  };
}

function wholeCopy({ buffer, byteOffset, bytes }: Argument, to: PooledBuffer): Command {
  return { kind: 'copy', from: buffer, fromOffset: byteOffset, to, toOffset: 0, bytes: roundUp(bytes, 4) };
}

function roundUp(value: number, step: number): number {
  return Math.ceil(value / step) * step;
}
