import { throwIfAborted } from '@filigree/core-tensor';
import { fileSink } from '#file-source';
import { maxReadBytes } from '../sources/byte-source.js';
import type { ByteSink } from './byte-sink.js';

/** Writes pieces to a sink, or to a file given by its path, and closes it; on any failure the sink is aborted. */
export async function writeTo(
  target: string | ByteSink,
  pieces: Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
  signal?: AbortSignal,
): Promise<void> {
  throwIfAborted(signal);
  const sink = typeof target === 'string' ? await fileSink(target) : target;
  try {
    for await (const piece of pieces) {
      for (let at = 0; at < piece.byteLength; at += maxReadBytes) {
        throwIfAborted(signal);
        await sink.write(piece.subarray(at, at + maxReadBytes));
      }
    }
    await sink.close();
  } catch (error) {
    await sink.abort();
    throw error;
  }
}
