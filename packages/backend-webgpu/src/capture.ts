import {
  inputNames,
  type AnyOp,
  type BufferHandle,
  type OpCall,
  type ShaderVariant,
  type Storage,
  type Tensor,
} from '@filigree/core-tensor';
import type { CopyCommand, DispatchCommand, QueuedOp } from './commands.js';
import type { UniformRing } from './uniform-ring.js';

/** A dispatch with the contents of its uniform block, which the ring does not keep. */
export interface CapturedDispatch {
  readonly kind: 'dispatch';
  readonly command: DispatchCommand;
  readonly block: Uint8Array;
}

export interface CapturedOp extends Pick<QueuedOp, 'name' | 'variant' | 'shapes'> {
  readonly commands: readonly (CapturedDispatch | CopyCommand)[];
}

/** What one run of a step did: its commands, and the buffers it used, wrote and made. */
export class Capture {
  readonly ops: CapturedOp[] = [];
  /** Buffers the step used and neither made nor was given. */
  readonly outside = new Set<Storage>();
  /** What of those and of its inputs it wrote, once for every op that did. */
  readonly mutated: Storage[] = [];
  /** Buffers it made and did not release. */
  readonly kept = new Set<BufferHandle>();
  readonly variants = new Map<AnyOp, ShaderVariant>();
  /** False when the step did what commands do not repeat: moved data of the host, ran an op without a shader, released what it did not make. */
  repeatable = true;
  /** True when this run is not one to repeat and the next one may be: an op could not be queued, or an input is at the same time outside. */
  failed = false;
  /** The inputs and their views. */
  readonly views: Set<Tensor>;
  readonly #made = new Set<BufferHandle>();

  constructor(
    private readonly given: readonly Tensor[],
    private readonly signal: AbortSignal | undefined,
  ) {
    this.views = new Set(given);
  }

  allocated(handle: BufferHandle): void {
    this.#made.add(handle);
    this.kept.add(handle);
  }

  released(handle: BufferHandle): void {
    if (!this.kept.delete(handle)) this.repeatable = false;
  }

  /** Notes a call that is about to be queued. */
  called({ op, inputs, signal }: OpCall, variant: ShaderVariant): void {
    if (signal !== this.signal) this.repeatable = false;
    this.variants.set(op, variant);
    const names = inputNames(op);
    for (const [index, tensor] of inputs.entries()) {
      if (!tensor || this.#made.has(tensor.storage.handle)) continue;
      if (op.mutates.includes(names[index])) this.mutated.push(tensor.storage);
      const sharing = this.given.filter(({ storage }) => storage === tensor.storage);
      if (sharing.length === 0) this.outside.add(tensor.storage);
      // Not through the input but by another way to its buffer, and that one stays when the input changes.
      else if (!this.views.has(tensor) || !sharing.some((input) => isWithin(tensor, input))) this.failed = true;
    }
  }

  queued({ name, variant, shapes, commands }: QueuedOp, uniforms: UniformRing): void {
    this.ops.push({
      name,
      variant,
      shapes,
      commands: commands.flatMap((command): readonly (CapturedDispatch | CopyCommand)[] => {
        if (command.kind === 'dispatch') return [{ kind: 'dispatch', command, block: uniforms.copy(command.block) }];
        if (command.kind === 'copy') return [command];
        throw new TypeError('a replay inside of a captured step');
      }),
    });
  }
}

function isWithin(part: Tensor, whole: Tensor): boolean {
  return part.byteOffset >= whole.byteOffset && part.byteOffset + part.bytes <= whole.byteOffset + whole.bytes;
}
