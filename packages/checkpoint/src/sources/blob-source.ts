import { throwIfAborted } from '@filigree/core-tensor';
import { SourceReadError } from '../errors.js';
import { assertRange, type ByteSource } from './byte-source.js';

/** A Blob or File, for example one chosen in a file input or stored in the origin-private file system. */
export function blobSource(blob: Blob, name = 'name' in blob ? String(blob.name) : 'blob'): ByteSource {
  const source = {
    size: blob.size,
    name,
    async read(offset: number, length: number, signal?: AbortSignal): Promise<Uint8Array> {
      throwIfAborted(signal);
      assertRange(source, offset, length);
      let bytes: Uint8Array;
      try {
        bytes = new Uint8Array(await blob.slice(offset, offset + length).arrayBuffer());
      } catch (cause) {
        throw new SourceReadError(`${name}: the blob cannot be read; was the file changed or removed?`, { cause });
      }
      throwIfAborted(signal);
      if (bytes.byteLength !== length)
        throw new SourceReadError(`${name}: got ${bytes.byteLength} of ${length} bytes at ${offset}; was the file changed?`);
      return bytes;
    },
  };
  return source;
}
