import { GgufFormatError } from '../errors.js';
import type { ByteSource } from '../sources/byte-source.js';
import { readTensorBytes, readTensorChunks, type ByteRange, type TensorInfo } from '../tensor-info.js';
import type { GgufType } from './types.js';
import type { GgufValue } from './value.js';

/** A tensor of a GGUF file. `shape` is row-major, the reverse of the order in the file. */
export interface GgufTensorInfo extends TensorInfo {
  readonly type: GgufType;
}

/** What a {@link GgufFile} is made of. */
export interface GgufContents {
  readonly source: ByteSource;
  /** All files when there are several, `source` being the first. */
  readonly sources?: readonly ByteSource[];
  readonly version: number;
  readonly alignment: number;
  readonly dataOffset: number;
  readonly metadata: ReadonlyMap<string, GgufValue>;
  readonly tensors: readonly GgufTensorInfo[];
}

/** An opened GGUF file: metadata and the places of its tensors. Weights are read on demand. */
export class GgufFile {
  /** The file; the first one when the model is in several. */
  readonly source: ByteSource;
  /** One per file. */
  readonly sources: readonly ByteSource[];
  readonly version: number;
  /** Tensors start at multiples of this many bytes. */
  readonly alignment: number;
  /** Where the tensor data begins, in bytes from the start of the file. */
  readonly dataOffset: number;
  readonly metadata: ReadonlyMap<string, GgufValue>;
  /** In the order of the file or files. */
  readonly tensors: readonly GgufTensorInfo[];
  readonly #byName: ReadonlyMap<string, GgufTensorInfo>;

  constructor(contents: GgufContents) {
    this.source = contents.source;
    this.sources = contents.sources ?? [contents.source];
    this.version = contents.version;
    this.alignment = contents.alignment;
    this.dataOffset = contents.dataOffset;
    this.metadata = contents.metadata;
    this.tensors = contents.tensors;
    this.#byName = new Map(contents.tensors.map((tensor) => [tensor.name, tensor]));
  }

  /** The tensor of that name; undefined when there is none. */
  find(name: string): GgufTensorInfo | undefined {
    return this.#byName.get(name);
  }

  /** The tensor of that name; GgufFormatError when there is none. */
  tensor(name: string): GgufTensorInfo {
    const tensor = this.#byName.get(name);
    if (!tensor) throw new GgufFormatError(`${this.source.name}: there is no tensor "${name}" among ${this.tensors.length}`);
    return tensor;
  }

  /** The bytes of a tensor or of a part of it, at most 64 MiB. */
  readBytes(info: GgufTensorInfo, range?: ByteRange): Promise<Uint8Array> {
    return readTensorBytes(info, range);
  }

  /** The bytes of a tensor in order, in pieces. */
  readChunks(info: GgufTensorInfo, range?: ByteRange & { chunkBytes?: number }): AsyncGenerator<Uint8Array, void, undefined> {
    return readTensorChunks(info, range);
  }

  /** A string of the metadata; undefined when the key is absent, GgufFormatError when it holds something else. */
  string(key: string): string | undefined {
    const entry = this.metadata.get(key);
    if (entry === undefined) return undefined;
    if (entry.type !== 'string') throw this.#wrongType(key, 'a string');
    return entry.value;
  }

  /** A bool of the metadata; as {@link string}. */
  boolean(key: string): boolean | undefined {
    const entry = this.metadata.get(key);
    if (entry === undefined) return undefined;
    if (entry.type !== 'bool') throw this.#wrongType(key, 'a bool');
    return entry.value;
  }

  /** A number of the metadata, integer or float; as {@link string}. 64-bit integers must be safe integers. */
  number(key: string): number | undefined {
    const entry = this.metadata.get(key);
    if (entry === undefined) return undefined;
    if (typeof entry.value === 'number') return entry.value;
    if (typeof entry.value === 'bigint' && Number.isSafeInteger(Number(entry.value))) return Number(entry.value);
    throw this.#wrongType(key, 'a number');
  }

  /** An array of strings of the metadata; as {@link string}. */
  strings(key: string): readonly string[] | undefined {
    const entry = this.metadata.get(key);
    if (entry === undefined) return undefined;
    if (entry.type !== 'array' || entry.value.elementType !== 'string') throw this.#wrongType(key, 'an array of strings');
    return entry.value.values;
  }

  /** An array of numbers of the metadata, of at most 32-bit integers or of floats; as {@link string}. */
  numbers(key: string): ArrayLike<number> | undefined {
    const entry = this.metadata.get(key);
    if (entry === undefined) return undefined;
    if (entry.type === 'array') {
      const { values } = entry.value;
      if (ArrayBuffer.isView(values) && !(values instanceof BigInt64Array) && !(values instanceof BigUint64Array))
        return values;
    }
    throw this.#wrongType(key, 'an array of numbers');
  }

  /** Closes every source. */
  async close(): Promise<void> {
    for (const source of this.sources) await source.close?.();
  }

  #wrongType(key: string, expected: string): GgufFormatError {
    const entry = this.metadata.get(key);
    const got = entry?.type === 'array' ? `an array of ${entry.value.elementType}` : entry?.type;
    return new GgufFormatError(`${this.source.name}: metadata "${key}" should be ${expected}, the file has ${got}`);
  }
}
