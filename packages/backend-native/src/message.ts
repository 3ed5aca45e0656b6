import { dtypes, inputNames, type DType, type OpCall, type Tensor } from '@filigree/core-tensor';

const dtypeIndex: Readonly<Record<DType, number>> = Object.fromEntries(dtypes.map((dtype, index) => [dtype, index])) as Record<
  DType,
  number
>;

/**
 * Records for the addon as numbers, in one growing array: `[length, kind, …]`. 0 is an op, 1 `[id, bytes]` an allocation, 2 `[id]` a release;
 * the op's fields are in the parser (kernels/native/addon/src/message.rs). Filled hundreds of times per token, so it is never reallocated once
 * it is long enough.
 */
export class Message {
  #words = new Float64Array(4096);
  #length = 0;
  #records = 0;

  get records(): number {
    return this.#records;
  }

  allocate(id: number, bytes: number): void {
    const words = this.#room(4);
    const at = this.#length;
    words[at] = 4;
    words[at + 1] = 1;
    words[at + 2] = id;
    words[at + 3] = bytes;
    this.#end(at + 4);
  }

  release(id: number): void {
    const words = this.#room(3);
    const at = this.#length;
    words[at] = 3;
    words[at + 1] = 2;
    words[at + 2] = id;
    this.#end(at + 3);
  }

  op({ op, inputs, outputs, flatAttributes }: OpCall, index: number, token: number): void {
    let size = 7 + op.mutates.length + flatAttributes.length;
    for (const tensor of inputs) size += wordsOf(tensor);
    for (const tensor of outputs) size += wordsOf(tensor);
    const words = this.#room(size);
    const start = this.#length;
    words[start] = size;
    words[start + 1] = 0;
    words[start + 2] = index;
    words[start + 3] = token;
    words[start + 4] = inputs.length;
    let at = start + 5;
    for (const tensor of inputs) at = putTensor(words, at, tensor);
    words[at++] = outputs.length;
    for (const tensor of outputs) at = putTensor(words, at, tensor);
    words[at++] = op.mutates.length;
    const names = inputNames(op);
    for (const name of op.mutates) words[at++] = names.indexOf(name);
    for (const value of flatAttributes) words[at++] = value;
    this.#end(at);
  }

  /** A copy of everything since the last {@link take}. */
  copy(): Float64Array {
    return this.#words.slice(0, this.#length);
  }

  /** Everything since the last call. Valid until the next record: the addon copies it. */
  take(): Float64Array {
    const taken = this.#words.subarray(0, this.#length);
    this.#length = 0;
    this.#records = 0;
    return taken;
  }

  #room(words: number): Float64Array {
    if (this.#length + words > this.#words.length) {
      const longer = new Float64Array(2 * (this.#length + words));
      longer.set(this.#words.subarray(0, this.#length));
      this.#words = longer;
    }
    return this.#words;
  }

  #end(length: number): void {
    this.#length = length;
    this.#records++;
  }
}

/** An argument is `[id, byte offset, dtype, rank, …dimensions]`; one that was left out is `[-1]`. */
function wordsOf(tensor: Tensor | undefined): number {
  return tensor ? 4 + tensor.shape.length : 1;
}

function putTensor(words: Float64Array, at: number, tensor: Tensor | undefined): number {
  if (!tensor) {
    words[at] = -1;
    return at + 1;
  }
  const { storage, byteOffset, dtype, shape } = tensor;
  words[at] = storage.handle as number;
  words[at + 1] = byteOffset;
  words[at + 2] = dtypeIndex[dtype];
  words[at + 3] = shape.length;
  for (let axis = 0; axis < shape.length; axis++) words[at + 4 + axis] = shape[axis];
  return at + 4 + shape.length;
}
