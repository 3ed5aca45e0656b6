import {
  OptionError,
  ResultPlaces,
  throwIfAborted,
  type BufferHandle,
  type Recording,
  type Storage,
  type Tensor,
} from '@filigree/core-tensor';

/** What a backend lends to its recordings. */
export interface RecordingHost {
  /** Runs the step with its records held back; undefined when it did what cannot be replayed: host data, an op without a kernel. */
  capture<T>(given: readonly Tensor[], step: () => T): { readonly result: T; readonly captured: Captured | undefined };
  /** The signal that calls carry now. */
  signal(): AbortSignal | undefined;
  /** A buffer that a replay's records allocate. */
  adopt(bytes: number): Storage;
  /** Keeps records in the addon; `slots` lists for each buffer that changes how many words name it, and which. */
  define(words: Float64Array, slots: Float64Array): number;
  /** Runs kept records with `[id, bytes moved]` for each slot. */
  replay(program: number, buffers: Float64Array): void;
  forget(program: number): void;
}

/** Records of one run of a step. */
export interface Captured {
  readonly words: Float64Array;
  readonly signal: AbortSignal | undefined;
  /** Buffers the step used and did not make. */
  readonly outside: ReadonlySet<Storage>;
  readonly mutated: readonly Storage[];
}

interface TemplateInput {
  readonly handle: number;
  readonly byteOffset: number;
  readonly shape: string;
  /** How many ops write its buffer. */
  readonly writes: number;
}

interface Template {
  readonly signal: AbortSignal | undefined;
  readonly outside: ReadonlySet<Storage>;
  readonly mutated: readonly Storage[];
  /** The records in the addon. Its slots are the inputs, then the results. */
  readonly program: number;
  readonly inputs: readonly TemplateInput[];
  /** Buffers that outlive the step: the handle of the first run, and their size. */
  readonly results: readonly { readonly handle: number; readonly bytes: number }[];
  /** What goes with a replay; the addon copies it. */
  readonly buffers: Float64Array;
  readonly out: ResultPlaces;
}

/**
 * A step whose records are kept in the addon and run again with other buffers in place of its inputs and results: one crossing of a few
 * words, no validation and no parsing per replay. A step that cannot be kept, and one whose inputs change shape, runs as it is.
 */
export class NativeRecording<In extends readonly Tensor[], Out> implements Recording<In, Out> {
  #template: Template | undefined;
  #plain = false;
  #disposed = false;

  constructor(
    private readonly host: RecordingHost,
    private readonly step: (...inputs: In) => Out,
  ) {}

  replay(...inputs: In): Out {
    if (this.#disposed) throw new OptionError('Recording.replay: used after dispose()');
    throwIfAborted(this.host.signal());
    for (const [index, tensor] of inputs.entries()) {
      tensor.assertAlive(`Recording.replay: input ${index}`);
      if (tensor.storage.poison) throw tensor.storage.poison;
    }
    if (this.#plain) return this.step(...inputs);
    if (this.#template && fits(this.#template, inputs, this.host.signal())) return this.#send(this.#template, inputs) as Out;
    this.#forget();
    const { result, captured } = this.host.capture(inputs, () => this.step(...inputs));
    this.#template = captured && templateOf(this.host, captured, inputs, result);
    this.#plain = !this.#template;
    for (const storage of this.#template?.outside ?? []) storage.retain();
    return result;
  }

  dispose(): void {
    this.#disposed = true;
    this.#forget();
  }

  #forget(): void {
    if (!this.#template) return;
    this.host.forget(this.#template.program);
    for (const storage of this.#template.outside) storage.release();
    this.#template = undefined;
  }

  #send(template: Template, given: readonly Tensor[]): unknown {
    const { inputs, results, buffers, mutated, program } = template;
    const written = new Set<Storage>();
    for (const [index, tensor] of given.entries()) {
      if (!written.has(tensor.storage)) tensor.storage.version += inputs[index].writes;
      written.add(tensor.storage);
      buffers[2 * index] = tensor.storage.handle as number;
      buffers[2 * index + 1] = tensor.byteOffset - inputs[index].byteOffset;
    }
    const made = new Map<BufferHandle, Storage>();
    for (const [index, { handle, bytes }] of results.entries()) {
      const storage = this.host.adopt(bytes);
      made.set(handle, storage);
      buffers[2 * (inputs.length + index)] = storage.handle as number;
    }
    for (const storage of mutated) storage.version++;
    this.host.replay(program, buffers);
    return template.out.tensors(made);
  }
}

const describe = ({ shape, dtype }: Tensor): string => `${dtype} ${shape.join()}`;

/** Whether the inputs can take the places of those of the captured run. */
function fits(template: Template, given: readonly Tensor[], signal: AbortSignal | undefined): boolean {
  const { inputs } = template;
  if (template.signal !== signal || given.length !== inputs.length) return false;
  for (const [index, tensor] of given.entries()) {
    if (describe(tensor) !== inputs[index].shape) return false;
    // Inputs that shared a buffer were told apart by nothing but their offsets: they move together or not at all.
    for (let other = 0; other < index; other++) {
      if (inputs[other].handle !== inputs[index].handle) continue;
      const moved = tensor.byteOffset - inputs[index].byteOffset;
      if (given[other].storage !== tensor.storage || given[other].byteOffset - inputs[other].byteOffset !== moved) return false;
    }
  }
  return true;
}

/** Undefined when the step kept or released buffers in a way that a replay cannot repeat. */
function templateOf(host: RecordingHost, captured: Captured, given: readonly Tensor[], result: unknown): Template | undefined {
  const { words, signal } = captured;
  const sites = new Map<number, number[]>();
  const allocated = new Map<number, number>();
  const note = (word: number): void => {
    const list = sites.get(words[word]);
    if (list) list.push(word);
    else sites.set(words[word], [word]);
  };
  for (let at = 0; at < words.length; at += words[at]) {
    const kind = words[at + 1];
    if (kind === 1) {
      allocated.set(words[at + 2], words[at + 3]);
      note(at + 2);
    } else if (kind === 2) {
      if (!allocated.delete(words[at + 2])) return undefined;
      note(at + 2);
    } else {
      let word = at + 4;
      for (let group = 0; group < 2; group++) {
        const count = words[word++];
        for (let argument = 0; argument < count; argument++) {
          if (words[word] < 0) word += 1;
          else {
            note(word);
            word += 4 + words[word + 3];
          }
        }
      }
    }
  }
  const out = new ResultPlaces(result);
  if (out.handles.size !== allocated.size || [...allocated.keys()].some((handle) => !out.handles.has(handle))) return undefined;
  const seen = new Set<number>();
  const slots: number[] = [];
  const addSlot = (handle: number): void => {
    // Inputs that share a buffer move together: its words are named once.
    const words = seen.has(handle) ? [] : (sites.get(handle) ?? []);
    seen.add(handle);
    slots.push(words.length, ...words);
  };
  const inputs = given.map((tensor) => {
    const handle = tensor.storage.handle as number;
    addSlot(handle);
    const writes = captured.mutated.filter((storage) => storage === tensor.storage).length;
    return { handle, byteOffset: tensor.byteOffset, shape: describe(tensor), writes };
  });
  // Inputs are the caller's and change; only what else the step used is kept alive.
  const outside = new Set([...captured.outside].filter((storage) => !seen.has(storage.handle as number)));
  const mutated = captured.mutated.filter((storage) => !seen.has(storage.handle as number));
  const results = [...allocated].map(([handle, bytes]) => {
    addSlot(handle);
    return { handle, bytes };
  });
  const program = host.define(words, Float64Array.from(slots));
  const buffers = new Float64Array(2 * (inputs.length + results.length));
  return { signal, outside, mutated, program, inputs, results, buffers, out };
}
