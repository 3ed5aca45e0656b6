import { SafetensorsFormatError } from '../errors.js';
import type { ByteSource } from '../sources/byte-source.js';
import { readTensorBytes, readTensorChunks, type ByteRange, type TensorInfo } from '../tensor-info.js';
import type { SafetensorsDType } from './dtypes.js';

/** A tensor of a safetensors file; `source` is the file it lies in. */
export interface SafetensorsTensorInfo extends TensorInfo {
  readonly dtype: SafetensorsDType;
}

/** An opened safetensors checkpoint, of one file or of several shards. Weights are read on demand. */
export class SafetensorsFile {
  readonly #byName: ReadonlyMap<string, SafetensorsTensorInfo>;

  /**
   * @param name for messages
   * @param sources one per file
   * @param tensors in the order of their bytes
   * @param metadata the `__metadata__` of the file, or of the index of shards
   */
  constructor(
    readonly name: string,
    readonly sources: readonly ByteSource[],
    readonly tensors: readonly SafetensorsTensorInfo[],
    readonly metadata: ReadonlyMap<string, string>,
  ) {
    this.#byName = new Map(tensors.map((tensor) => [tensor.name, tensor]));
  }

  /** The tensor of that name; undefined when there is none. */
  find(name: string): SafetensorsTensorInfo | undefined {
    return this.#byName.get(name);
  }

  /** The tensor of that name; SafetensorsFormatError when there is none. */
  tensor(name: string): SafetensorsTensorInfo {
    const tensor = this.#byName.get(name);
    if (!tensor) throw new SafetensorsFormatError(`${this.name}: there is no tensor "${name}" among ${this.tensors.length}`);
    return tensor;
  }

  /** The bytes of a tensor or of a part of it, at most 64 MiB. */
  readBytes(info: SafetensorsTensorInfo, range?: ByteRange): Promise<Uint8Array> {
    return readTensorBytes(info, range);
  }

  /** The bytes of a tensor in order, in pieces. */
  readChunks(
    info: SafetensorsTensorInfo,
    range?: ByteRange & { chunkBytes?: number },
  ): AsyncGenerator<Uint8Array, void, undefined> {
    return readTensorChunks(info, range);
  }

  /** Closes every source. */
  async close(): Promise<void> {
    for (const source of this.sources) await source.close?.();
  }
}
