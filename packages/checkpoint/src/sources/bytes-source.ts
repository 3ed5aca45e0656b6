import { throwIfAborted } from '@filigree/core-tensor';
import { assertRange, type ByteSource } from './byte-source.js';

/** Bytes in memory. Reads are copies: what a reader does to its bytes does not reach `bytes`. */
export function bytesSource(bytes: Uint8Array, name = 'bytes'): ByteSource {
  const source = {
    size: bytes.byteLength,
    name,
    async read(offset: number, length: number, signal?: AbortSignal): Promise<Uint8Array> {
      throwIfAborted(signal);
      assertRange(source, offset, length);
      return new Uint8Array(bytes.subarray(offset, offset + length));
    },
  };
  return source;
}
