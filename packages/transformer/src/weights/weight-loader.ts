import { readTensorBytes, readTensorChunks, UnsupportedTensorType } from '@filigree/checkpoint';
import { empty, fromArray, Storage, Tensor, throwIfAborted, type Backend } from '@filigree/core-tensor';
import { decodeRow, ggufLayouts, kernelTypes, rowBytes } from '@filigree/quantization';
import { ModelFormatError } from '../errors.js';
import type { ConvertibleWeight, WeightInfo, WeightSource } from './weight-source.js';

export interface WeightLoaderOptions {
  readonly mmap: boolean;
  readonly signal?: AbortSignal | undefined;
  readonly onBytes: (bytes: number) => void;
}

/** Bytes that are uploaded at a time. */
const uploadBytes = 16 * 2 ** 20;

/** A matrix on the backend. */
export interface LoadedMatrix {
  /** u8 [rows, rowBytes]. */
  readonly blocks: Tensor;
  readonly type: string;
  /** Order of the inputs, where it is another one than x has. */
  readonly inputOrder?: Tensor;
  /** f32 [1] that multiplies all weights. */
  readonly scale?: Tensor;
}

/** Brings weights to a backend: matrices as the file's blocks, vectors as f32. Checks names, shapes and types. */
export class WeightLoader {
  constructor(
    readonly backend: Backend,
    readonly source: WeightSource,
    readonly options: WeightLoaderOptions,
  ) {}

  has(name: string): boolean {
    return this.source.findConverted?.(name) !== undefined || this.source.find(name) !== undefined;
  }

  /**
   * A matrix [rows, columns]: a view of the mapped file where the backend can, else uploaded; converted where the checkpoint has it in parts.
   */
  async matrix(name: string, rows: number, columns: number): Promise<LoadedMatrix> {
    const convertible = this.source.findConverted?.(name);
    if (convertible) return this.#converted(name, convertible, [rows, columns]);
    const info = this.#find(name, [rows, columns]);
    if (!(kernelTypes as readonly string[]).includes(info.type))
      throw new UnsupportedTensorType(this.source.name, info.name, info.type, kernelTypes);
    const width = this.#rowBytes(info, columns);
    const mapped = this.#map(info, rows, width);
    const { signal } = this.options;
    const blocks = mapped ?? (await this.#upload(readTensorChunks(info, signal ? { signal } : {}), [rows, width]));
    this.options.onBytes(info.byteLength);
    return { blocks, type: info.type };
  }

  async #converted(
    name: string,
    { byteLength, convert }: ConvertibleWeight,
    [rows, columns]: readonly [number, number],
  ): Promise<LoadedMatrix> {
    throwIfAborted(this.options.signal);
    const { type, outFeatures, inFeatures, blocks: bytes, inputOrder, scale } = await convert(this.options.signal);
    if (outFeatures !== rows || inFeatures !== columns)
      throw new ModelFormatError(
        `${this.source.name}: weight "${name}" is [${outFeatures}, ${inFeatures}], the model needs [${rows}, ${columns}]`,
      );
    const blocks = await this.#upload(pieces(bytes), [rows, rowBytes(type, columns)]);
    this.options.onBytes(byteLength);
    return {
      blocks,
      type,
      ...(inputOrder ? { inputOrder: fromArray(this.backend, inputOrder, [columns], 'i32') } : {}),
      ...(scale === undefined ? {} : { scale: fromArray(this.backend, [scale], [1], 'f32') }),
    };
  }

  /** A vector of `length` as f32. */
  async vector(name: string, length: number): Promise<Tensor> {
    const values = await this.values(name, length);
    return fromArray(this.backend, values, [length], 'f32');
  }

  /** The elements of a vector on the host. */
  async values(name: string, length?: number): Promise<Float32Array> {
    const info = this.#find(name, length === undefined ? undefined : [length]);
    const count = info.shape.reduce((product, dimension) => product * dimension, 1);
    if (!ggufLayouts.has(info.type) || count > 1 << 24)
      throw new ModelFormatError(
        `${this.source.name}: tensor "${info.name}" (${info.type}, ${count} elements) is not a vector of numbers`,
      );
    const out = new Float32Array(count);
    const bytes = await readTensorBytes(info, this.options.signal ? { signal: this.options.signal } : {});
    this.#rowBytes(info, count);
    decodeRow(info.type, bytes, 0, count, out);
    this.options.onBytes(info.byteLength);
    return out;
  }

  #find(name: string, shape: readonly number[] | undefined): WeightInfo {
    throwIfAborted(this.options.signal);
    const info = this.source.find(name);
    if (!info) throw new ModelFormatError(`${this.source.name}: there is no tensor "${name}", which the model needs`);
    if (shape && info.shape.join() !== shape.join())
      throw new ModelFormatError(
        `${this.source.name}: tensor "${info.name}" is [${info.shape.join(', ')}], the model needs [${shape.join(', ')}]`,
      );
    return info;
  }

  #rowBytes(info: WeightInfo, columns: number): number {
    try {
      return rowBytes(info.type, columns);
    } catch (cause) {
      throw new ModelFormatError(
        `${this.source.name}: tensor "${info.name}": rows of ${columns} are no whole blocks of ${info.type}`,
        { cause },
      );
    }
  }

  #map(info: WeightInfo, rows: number, width: number): Tensor | undefined {
    const { path } = info.source;
    if (!this.options.mmap || path === undefined || info.byteLength === 0) return undefined;
    const handle = this.backend.mapFile(path, info.offset, info.byteLength);
    if (handle === undefined) return undefined;
    return new Tensor(new Storage(this.backend, handle, info.byteLength), [rows, width], 'u8');
  }

  /** Bytes in pieces as u8 of the shape; gives back what it has when they fail. */
  async #upload(chunks: Iterable<Uint8Array> | AsyncIterable<Uint8Array>, shape: readonly number[]): Promise<Tensor> {
    const blocks = empty(this.backend, shape, 'u8');
    try {
      let at = 0;
      for await (const chunk of chunks) {
        throwIfAborted(this.options.signal);
        this.backend.write(blocks.storage, at, chunk);
        at += chunk.length;
        await this.backend.ready();
      }
      return blocks;
    } catch (error) {
      blocks.dispose();
      throw error;
    }
  }
}

function* pieces(bytes: Uint8Array): Generator<Uint8Array, void, undefined> {
  for (let at = 0; at < bytes.length; at += uploadBytes) yield bytes.subarray(at, at + uploadBytes);
}
