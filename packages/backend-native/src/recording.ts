import { OptionError, Tensor, type Recording, type Storage } from '@filigree/core-tensor';
import type { Message } from './message.js';

/** What a backend lends to its recordings. */
export interface RecordingHost {
  readonly message: Message;
  /** Runs the step with its records held back; undefined when it did what cannot be replayed: host data, an op without a kernel. */
  capture<T>(step: () => T): { readonly result: T; readonly captured: Captured | undefined };
  /** The signal that calls carry now. */
  signal(): AbortSignal | undefined;
  /** A buffer that a replay's records allocate. */
  adopt(bytes: number): Storage;
  flush(): void;
}

/** Records of one run of a step. */
export interface Captured {
  readonly words: Float64Array;
  readonly records: number;
  readonly signal: AbortSignal | undefined;
  /** Buffers the step used and did not make. */
  readonly outside: ReadonlySet<Storage>;
  readonly mutated: readonly Storage[];
}

interface InputSites {
  readonly handle: number;
  readonly byteOffset: number;
  /** Words of the template that name the buffer; the word after each is the byte offset. */
  readonly sites: readonly number[];
}

interface Template {
  readonly captured: Captured;
  readonly inputs: readonly InputSites[];
  readonly shapes: readonly string[];
  /** Buffers that outlive the step, by handle. */
  readonly results: ReadonlyMap<number, { readonly bytes: number; readonly sites: readonly number[] }>;
  /** What the step returned, with its tensors as places in it. */
  readonly out: unknown;
}

/**
 * A step whose records are kept and sent again with other buffers in place of its inputs and results: one crossing and no validation per
 * replay. A step that cannot be kept, and one whose inputs change shape, runs as it is.
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
    for (const [index, tensor] of inputs.entries()) {
      tensor.assertAlive(`Recording.replay: input ${index}`);
      if (tensor.storage.poison) throw tensor.storage.poison;
    }
    if (this.#plain) return this.step(...inputs);
    if (this.#template && fits(this.#template, inputs, this.host.signal())) return this.#send(this.#template, inputs) as Out;
    this.#forget();
    const { result, captured } = this.host.capture(() => this.step(...inputs));
    this.#template = captured && templateOf(captured, inputs, result);
    this.#plain = !this.#template;
    for (const storage of this.#template?.captured.outside ?? []) storage.retain();
    return result;
  }

  dispose(): void {
    this.#disposed = true;
    this.#forget();
  }

  #forget(): void {
    for (const storage of this.#template?.captured.outside ?? []) storage.release();
    this.#template = undefined;
  }

  #send(template: Template, inputs: readonly Tensor[]): unknown {
    const { captured, results } = template;
    const { words, start } = this.host.message.append(captured.words, captured.records);
    for (const [index, { handle, byteOffset, sites }] of template.inputs.entries()) {
      const tensor = inputs[index];
      const [id, moved] = [tensor.storage.handle as number, tensor.byteOffset - byteOffset];
      if (id === handle && moved === 0) continue;
      for (const site of sites) {
        words[start + site] = id;
        words[start + site + 1] += moved;
      }
    }
    const made = new Map<number, Storage>();
    for (const [handle, { bytes, sites }] of results) {
      const storage = this.host.adopt(bytes);
      made.set(handle, storage);
      for (const site of sites) words[start + site] = storage.handle as number;
    }
    for (const storage of captured.mutated) storage.version++;
    this.host.flush();
    const used = new Set<Storage>();
    return mapTensors(template.out, (tensor) => {
      const storage = made.get(tensor.handle);
      if (!storage) throw new OptionError('Recording.replay: a result of the step has no buffer');
      const first = !used.has(storage);
      used.add(storage);
      return new Tensor(first ? storage : storage.retain(), tensor.shape, tensor.dtype, tensor.offset);
    });
  }
}

/** Where a tensor of a result lies. */
class Place {
  constructor(
    readonly handle: number,
    readonly shape: Tensor['shape'],
    readonly dtype: Tensor['dtype'],
    readonly offset: number,
  ) {}
}

/** The same arrays and plain objects with every place replaced. */
function mapTensors(value: unknown, make: (place: Place) => Tensor): unknown {
  if (value instanceof Place) return make(value);
  if (Array.isArray(value)) return value.map((item) => mapTensors(item, make));
  if (typeof value === 'object' && value !== null)
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, mapTensors(item, make)]));
  return value;
}

function placesOf(value: unknown): unknown {
  if (value instanceof Tensor) return new Place(value.storage.handle as number, value.shape, value.dtype, value.offset);
  if (Array.isArray(value)) return value.map(placesOf);
  if (typeof value === 'object' && value !== null && Object.getPrototypeOf(value) === Object.prototype)
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, placesOf(item)]));
  return value;
}

const describe = ({ shape, dtype }: Tensor): string => `${dtype} ${shape.join()}`;

/** Whether the inputs can take the places of those of the captured run. */
function fits({ captured, inputs, shapes }: Template, given: readonly Tensor[], signal: AbortSignal | undefined): boolean {
  if (captured.signal !== signal || given.length !== inputs.length) return false;
  for (const [index, tensor] of given.entries()) {
    if (describe(tensor) !== shapes[index]) return false;
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
function templateOf(captured: Captured, given: readonly Tensor[], result: unknown): Template | undefined {
  const { words } = captured;
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
  const out = placesOf(result);
  const returned = new Set<number>();
  mapTensors(out, (place) => {
    returned.add(place.handle);
    return given[0];
  });
  if (returned.size !== allocated.size || [...allocated.keys()].some((handle) => !returned.has(handle))) return undefined;
  const seen = new Set<number>();
  const inputs = given.map((tensor): InputSites => {
    const handle = tensor.storage.handle as number;
    const own = seen.has(handle) ? [] : (sites.get(handle) ?? []);
    seen.add(handle);
    return { handle, byteOffset: tensor.byteOffset, sites: own };
  });
  const results = new Map([...allocated].map(([handle, bytes]) => [handle, { bytes, sites: sites.get(handle) ?? [] }]));
  // Inputs are the caller's and change; only what else the step used is kept alive.
  const outside = new Set([...captured.outside].filter((storage) => !seen.has(storage.handle as number)));
  return { captured: { ...captured, outside }, inputs, shapes: given.map(describe), results, out };
}
