import { inputNames, type OpCall, type Storage, type Tensor } from '@filigree/core-tensor';

/** What a step that is being captured has used and made so far, and whether it can be replayed. */
export class Capture {
  readonly outside = new Set<Storage>();
  readonly mutated: Storage[] = [];
  readonly made = new Set<number>();
  /** The inputs and their views. */
  readonly views: Set<Tensor>;
  whole = true;

  constructor(private readonly given: readonly Tensor[]) {
    this.views = new Set(given);
  }

  called({ op, inputs }: OpCall): void {
    const names = inputNames(op);
    for (const [index, tensor] of inputs.entries()) {
      if (!tensor || this.made.has(tensor.storage.handle as number)) continue;
      const { storage } = tensor;
      this.outside.add(storage);
      if (op.mutates.includes(names[index])) this.mutated.push(storage);
      // Not through an input but by another way to its buffer, which stays when the input changes.
      if (!this.views.has(tensor) && this.given.some((input) => input.storage === storage)) this.whole = false;
    }
  }
}
