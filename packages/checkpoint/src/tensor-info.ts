import { OptionError, throwIfAborted } from '@filigree/core-tensor';
import { maxReadBytes, type ByteSource } from './sources/byte-source.js';

/** Where a tensor lies in a file. Its bytes are validated to lie inside of `source`. */
export interface TensorInfo {
  readonly name: string;
  /** Row-major: outermost dimension first. */
  readonly shape: readonly number[];
  /** Bytes from the start of `source`. */
  readonly offset: number;
  readonly byteLength: number;
  readonly source: ByteSource;
}

/** A part of a tensor's bytes. */
export interface ByteRange {
  /** First byte, from the start of the tensor. */
  start?: number;
  /** Bytes; to the end of the tensor when absent. */
  length?: number;
  signal?: AbortSignal;
}

/** Reads a tensor's bytes, or a part of them, into one buffer of at most 64 MiB. Larger ones: {@link readTensorChunks}. */
export async function readTensorBytes(info: TensorInfo, range: ByteRange = {}): Promise<Uint8Array> {
  const { start, length } = clip(info, range);
  if (length > maxReadBytes)
    throw new OptionError(
      `readTensorBytes: "${info.name}": ${length} bytes do not go into one buffer (limit ${maxReadBytes}); ` +
        'read parts with start and length, or use readTensorChunks',
    );
  return info.source.read(info.offset + start, length, range.signal);
}

/** Yields a tensor's bytes in order, in pieces of at most `chunkBytes`. */
export async function* readTensorChunks(
  info: TensorInfo,
  { chunkBytes = 16 * 2 ** 20, ...range }: ByteRange & { chunkBytes?: number } = {},
): AsyncGenerator<Uint8Array, void, undefined> {
  if (!Number.isInteger(chunkBytes) || chunkBytes < 1 || chunkBytes > maxReadBytes)
    throw new OptionError(`readTensorChunks: chunkBytes must be 1 to ${maxReadBytes}, got ${chunkBytes}`);
  const { start, length } = clip(info, range);
  for (let done = 0; done < length; done += chunkBytes) {
    throwIfAborted(range.signal);
    yield info.source.read(info.offset + start + done, Math.min(chunkBytes, length - done), range.signal);
  }
}

function clip(info: TensorInfo, range: ByteRange): { start: number; length: number } {
  const { start = 0 } = range;
  const { length = info.byteLength - start } = range;
  if (
    !Number.isSafeInteger(start) ||
    !Number.isSafeInteger(length) ||
    start < 0 ||
    length < 0 ||
    start + length > info.byteLength
  )
    throw new OptionError(
      `"${info.name}": start ${start} and length ${length} do not lie inside of the tensor's ${info.byteLength} bytes`,
    );
  return { start, length };
}
