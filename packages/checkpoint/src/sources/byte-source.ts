import { SourceReadError } from '../errors.js';

/** Most bytes that one read puts into one JavaScript buffer. */
export const maxReadBytes = 64 * 2 ** 20;

/**
 * Bytes at rest that can be read in ranges: a file, a Blob, a URL, memory.
 * The bytes must not change while the source is used.
 */
export interface ByteSource {
  /** Bytes in total. */
  readonly size: number;
  /** For messages: a path, a URL without its query. */
  readonly name: string;
  /** Set when this is one local file, which may then be memory-mapped. */
  readonly path?: string;
  /** Exactly `length` bytes from `offset`. Rejects with SourceReadError outside of the source or when the bytes cannot be had. */
  read(offset: number, length: number, signal?: AbortSignal): Promise<Uint8Array>;
  /** Releases what the source holds. Reading afterwards is an error. */
  close?(): Promise<void>;
}

/** Throws SourceReadError unless [offset, offset + length) lies inside of the source. */
export function assertRange(source: Pick<ByteSource, 'name' | 'size'>, offset: number, length: number): void {
  if (!Number.isSafeInteger(offset) || !Number.isSafeInteger(length) || offset < 0 || length < 0)
    throw new SourceReadError(`${source.name}: offset and length must be non-negative integers, got ${offset} and ${length}`);
  if (offset + length > source.size)
    throw new SourceReadError(
      `${source.name}: read of ${length} bytes at ${offset} goes past the end; the source has ${source.size} bytes`,
    );
}
