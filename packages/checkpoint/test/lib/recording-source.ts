import { bytesSource, type ByteSource } from '@filigree/checkpoint';

/** A source in memory that keeps account of what is read from it. */
export interface RecordingSource extends ByteSource {
  readonly reads: { offset: number; length: number }[];
  bytesRead(): number;
}

export function recordingSource(bytes: Uint8Array, name = 'recorded'): RecordingSource {
  const inner = bytesSource(bytes, name);
  const reads: { offset: number; length: number }[] = [];
  return {
    size: inner.size,
    name,
    reads,
    bytesRead: () => reads.reduce((total, { length }) => total + length, 0),
    read(offset, length, signal) {
      reads.push({ offset, length });
      return inner.read(offset, length, signal);
    },
  };
}
