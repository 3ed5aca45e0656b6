import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { throwIfAborted } from '@filigree/core-tensor';

/** SHA-256 of a file in hex; `onBytes` is told how far it is. */
export async function sha256OfFile(path: string, signal?: AbortSignal, onBytes?: (done: number) => void): Promise<string> {
  const hash = createHash('sha256');
  let done = 0;
  for await (const bytes of createReadStream(path, { highWaterMark: 2 ** 20 }) as AsyncIterable<Uint8Array>) {
    throwIfAborted(signal);
    hash.update(bytes);
    done += bytes.byteLength;
    onBytes?.(done);
  }
  return hash.digest('hex');
}
