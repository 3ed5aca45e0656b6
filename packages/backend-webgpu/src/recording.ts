import {
  OptionError,
  OutOfMemoryError,
  throwIfAborted,
  type BufferHandle,
  type Recording,
  type Storage,
  type Tensor,
} from '@filigree/core-tensor';
import type { Capture } from './capture.js';
import { bufferOf, failureOf } from './gpu-buffer.js';
import { inputSlots, type InputSlot } from './input-slots.js';
import { fits, recordedStep, type RecordedStep } from './recorded-step.js';
import type { ReplayProgram } from './replay-program.js';
import type { VariantChoices } from './variant-choices.js';

/** What a backend lends to its recordings. */
export interface RecordingHost {
  readonly variants: VariantChoices;
  /** Offsets of bindings are multiples of this. */
  readonly alignment: number;
  /** Throws when the backend or its device is gone. */
  assertAlive(): void;
  /** The signal that calls carry now. */
  signal(): AbortSignal | undefined;
  /** Whether a step is being captured now, to which everything that is queued belongs. */
  capturing(): boolean;
  /** What `run` queues goes with one submission. */
  together<T>(run: () => T): T;
  /** Runs the step and notes what it does; undefined where that cannot be told now: inside of another step, behind a fallback. */
  capture<T>(given: readonly Tensor[], run: () => T): { readonly result: T; readonly capture: Capture | undefined };
  /** A buffer for a result. */
  adopt(bytes: number): Storage;
  build(step: RecordedStep, slots: readonly InputSlot[]): ReplayProgram;
  /** Queues a program's commands, behind a fallback in progress. */
  replay(program: ReplayProgram, given: readonly Tensor[], made: ReadonlyMap<BufferHandle, Storage>): void;
  retire(program: ReplayProgram): void;
}

/**
 * A step whose commands are kept and encoded again with other buffers in place of its inputs and results: no op is called, nothing is planned, no bind
 * group made. The first replay runs the step; the commands are made of it by the next one, once the device has compiled the shaders and
 * the ops' variants are tested, and until then the step runs as it is. So does a step that commands cannot repeat, always: one that brings data
 * from the host, has an op without a shader or keeps what it makes. A step whose inputs change shape is taken anew.
 */
export class WebGpuRecording<In extends readonly Tensor[], Out> implements Recording<In, Out> {
  #step: RecordedStep | undefined;
  #program: ReplayProgram | undefined;
  /** `changes` of the variants when the step's were known to be current. */
  #variantChanges = 0;
  /** Inputs that were once not where they were before. */
  readonly #moving = new Set<number>();
  #plain = false;
  #disposed = false;

  constructor(
    private readonly host: RecordingHost,
    private readonly run: (...inputs: In) => Out,
  ) {}

  replay(...inputs: In): Out {
    if (this.#disposed) throw new OptionError('Recording.replay: used after dispose()');
    this.host.assertAlive();
    throwIfAborted(this.host.signal());
    for (const [index, tensor] of inputs.entries()) {
      tensor.assertAlive(`Recording.replay: input ${index}`);
      const failure = failureOf(tensor.storage);
      if (failure) throw failure;
    }
    if (this.#step && (!fits(this.#step, inputs) || this.#outdated(this.#step))) this.#forget();
    if (this.#plain || this.host.capturing()) return this.#runs(inputs);
    if (!this.#step) return this.#capture(inputs);
    const program = this.#ready(this.#step, inputs);
    return program ? this.#send(this.#step, program, inputs) : this.#runs(inputs);
  }

  dispose(): void {
    this.#disposed = true;
    this.#forget();
  }

  #runs(inputs: In): Out {
    return this.host.together(() => this.run(...inputs));
  }

  #capture(inputs: In): Out {
    const variantChanges = this.host.variants.changes;
    const { result, capture } = this.host.capture(inputs, () => this.#runs(inputs));
    if (!capture || capture.failed) return result;
    const step = capture.repeatable ? recordedStep(capture, inputs, result) : undefined;
    if (!step) this.#plain = true;
    for (const storage of step?.outside ?? []) storage.retain();
    this.#step = step;
    this.#variantChanges = variantChanges;
    return result;
  }

  /** Whether one of the step's ops has another variant by now. */
  #outdated({ variants }: RecordedStep): boolean {
    const { changes } = this.host.variants;
    if (changes === this.#variantChanges) return false;
    this.#variantChanges = changes;
    for (const [op, variant] of variants) if (this.host.variants.of(op) !== variant) return true;
    return false;
  }

  /** The program, where it can run with these inputs now. */
  #ready(step: RecordedStep, given: readonly Tensor[]): ReplayProgram | undefined {
    if (step.outside.some((storage) => failureOf(storage) !== undefined)) return undefined;
    const displaced = this.#program?.displaced(given) ?? [];
    if (displaced.length > 0) {
      for (const index of displaced) this.#moving.add(index);
      this.#retire();
    }
    if (!this.#program && this.#isCertain(step)) this.#program = this.#build(step, given);
    if (this.#program?.broken) this.#giveUp();
    return this.#program?.settled && this.#program.accepts(given) ? this.#program : undefined;
  }

  /** Undefined where the step cannot have one: it would write a copy of an input, or its buffers are too large. */
  #build(step: RecordedStep, given: readonly Tensor[]): ReplayProgram | undefined {
    const slots = inputSlots(step.inputs, given, this.#moving, this.host.alignment);
    try {
      if (slots.every(({ bound, members }) => bound || members.every((index) => step.inputs[index].writes === 0)))
        return this.host.build(step, slots);
    } catch (error) {
      if (!(error instanceof OutOfMemoryError)) throw error;
    }
    this.#giveUp();
    return undefined;
  }

  #send(step: RecordedStep, program: ReplayProgram, given: readonly Tensor[]): Out {
    const made = new Map<BufferHandle, Storage>();
    for (const { handle, bytes } of step.results) made.set(handle, this.host.adopt(bytes));
    for (const storage of step.mutated) storage.version++;
    const written = new Set<Storage>();
    for (const [index, { storage }] of given.entries()) {
      if (!written.has(storage)) storage.version += step.inputs[index].writes;
      written.add(storage);
    }
    this.host.replay(program, given, made);
    return step.out.tensors(made) as Out;
  }

  /** From now on the step runs as it is. */
  #giveUp(): void {
    this.#plain = true;
    this.#forget();
  }

  #forget(): void {
    this.#retire();
    for (const storage of this.#step?.outside ?? []) storage.release();
    this.#step = undefined;
  }

  #retire(): void {
    if (this.#program) this.host.retire(this.#program);
    this.#program = undefined;
  }

  /** Whether the device has compiled the step's shaders and made its buffers, and each op runs the variant that it will keep. */
  #isCertain({ ops, outside, variants }: RecordedStep): boolean {
    for (const op of variants.keys()) if (!this.host.variants.final(op)) return false;
    for (const { commands } of ops) {
      for (const command of commands)
        if (
          command.kind === 'dispatch' &&
          (!command.command.pipeline.settled || command.command.pipeline.failure !== undefined)
        )
          return false;
    }
    return outside.every((storage) => bufferOf(storage).settled);
  }
}
