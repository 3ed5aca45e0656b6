import { OptionError } from '@filigree/core-tensor';
import { assertRange, type ByteSource } from './byte-source.js';

/** Several sources in order as one, for a model that was cut into files without headers of their own. Closing it closes them. */
export function concatSource(parts: readonly ByteSource[], name = parts.map((part) => part.name).join(' + ')): ByteSource {
  if (parts.length === 0) throw new OptionError('concatSource: parts is empty; give at least one source');
  if (parts.length === 1 && parts[0].name === name) return parts[0];
  const starts: number[] = [];
  let size = 0;
  for (const part of parts) {
    starts.push(size);
    size += part.size;
  }
  const source = {
    size,
    name,
    async read(offset: number, length: number, signal?: AbortSignal): Promise<Uint8Array> {
      assertRange(source, offset, length);
      const end = offset + length;
      const pieces = parts.flatMap((part, index) => {
        const from = Math.max(offset, starts[index]);
        const to = Math.min(end, starts[index] + part.size);
        return from < to ? [{ part, from, start: from - starts[index], length: to - from }] : [];
      });
      if (pieces.length === 1) return pieces[0].part.read(pieces[0].start, pieces[0].length, signal);
      const bytes = new Uint8Array(length);
      for (const piece of pieces) bytes.set(await piece.part.read(piece.start, piece.length, signal), piece.from - offset);
      return bytes;
    },
    async close(): Promise<void> {
      for (const part of parts) await part.close?.();
    },
  };
  return source;
}
