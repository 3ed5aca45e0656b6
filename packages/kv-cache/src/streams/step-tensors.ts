import { fromArray, keep, narrow, type Backend, type Tensor } from '@filigree/core-tensor';

/** Where a step of `count` tokens writes and reads, on the device. Valid until the next mutation. */
export interface StreamStep {
  /** i32 [count]: positions of the tokens. */
  readonly positions: Tensor;
  /** i32 [layers, count · Hk]: slots of token 0 of every head, then of token 1, … */
  readonly slots: Tensor;
  /** i32 [layers · Hk]: entries once the step's are written. */
  readonly lengths: Tensor;
  /** i32 [layers · Hk, width]: `width` grows in steps, so that it seldom changes. */
  readonly table: Tensor;
}

/** What {@link StepTensors} is made of: positions from `start` on, slots of every layer, lengths of streams. */
export interface StepNumbers {
  readonly start: number;
  readonly count: number;
  readonly slots: readonly Int32Array[];
  readonly lengths: readonly number[];
}

/** The tensors of the latest step, which go with the next. */
export class StepTensors {
  #step: Omit<StreamStep, 'table'> | undefined;

  constructor(private readonly backend: Backend) {}

  get bytes(): number {
    return Object.values(this.#step ?? {}).reduce((sum, tensor) => sum + tensor.bytes, 0);
  }

  /** Puts a step on the device, in one piece. */
  upload({ start, count, slots, lengths }: StepNumbers): Omit<StreamStep, 'table'> {
    const [layers, perLayer] = [slots.length, slots[0].length];
    const lengthsAt = count + layers * perLayer;
    const numbers = new Int32Array(lengthsAt + lengths.length);
    for (let index = 0; index < count; index++) numbers[index] = start + index;
    for (const [layer, own] of slots.entries()) numbers.set(own, count + layer * perLayer);
    numbers.set(lengths, lengthsAt);
    const whole = fromArray(this.backend, numbers, [numbers.length], 'i32');
    const part = (at: number, length: number): Tensor => keep(narrow(whole, at, length));
    this.dispose();
    const flat = part(count, layers * perLayer);
    this.#step = {
      positions: part(0, count),
      slots: keep(flat.view([layers, perLayer], flat.offset)),
      lengths: part(lengthsAt, lengths.length),
    };
    flat.dispose();
    whole.dispose();
    return this.#step;
  }

  dispose(): void {
    for (const tensor of Object.values(this.#step ?? {})) tensor.dispose();
    this.#step = undefined;
  }
}
