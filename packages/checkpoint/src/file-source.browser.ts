import { SinkWriteError, SourceReadError } from './errors.js';
import type { ByteSink } from './sinks/byte-sink.js';
import type { ByteSource } from './sources/byte-source.js';

/** There are no paths in a browser. */
export async function fileSource(path: string): Promise<ByteSource> {
  throw new SourceReadError(`${path}: paths can be opened in Node only; use httpSource(url) or blobSource(blob) here`);
}

/** There are no paths in a browser. */
export async function fileSink(path: string): Promise<ByteSink> {
  throw new SinkWriteError(`${path}: paths can be written in Node only; use bytesSink() or a ByteSink of your own here`);
}
