import { FiligreeError } from '@filigree/core-tensor';
import type { TensorInfo } from '@filigree/checkpoint';
import { expect } from 'vitest';
import { recordingSource, type RecordingSource } from './recording-source.js';

/** What opening a spoiled file may allocate: this many bytes for each of the file, and a constant. */
const bytesPerByte = 64;
const bytesAnyway = 2 ** 20;

/** Opens spoiled files and keeps count of what came of them. */
export class Judge {
  readonly kinds = new Map<string, number>();
  readonly outcomes = new Map<string, number>();
  total = 0;
  /** Most that opening one file added to the heap and to array buffers, of a single sample. */
  mostAllocated = 0;

  /**
   * Opens `bytes`, which `kind` of change produced. Fails unless that gives a typed error, or a file whose tensors lie apart within its bounds
   * and can be read; and unless every byte is read at most once before.
   */
  async open(kind: string, bytes: Uint8Array, open: (source: RecordingSource) => Promise<{ tensors: readonly TensorInfo[] }>) {
    const source = recordingSource(bytes);
    const before = allocated();
    const outcome = await open(source).then(
      (file) => file.tensors,
      (error: unknown) => error,
    );
    // A collection in between makes the difference too small, hence the many samples.
    const growth = allocated() - before;
    this.mostAllocated = Math.max(this.mostAllocated, growth);
    if (growth > bytesAnyway + bytesPerByte * bytes.byteLength) fail(kind, bytes, `it took ${growth} bytes of memory`);
    if (source.bytesRead() > source.size) fail(kind, bytes, `${source.bytesRead()} bytes were read`);

    count(this.kinds, kind);
    this.total++;
    if (Array.isArray(outcome)) {
      await this.#checkTensors(kind, bytes, outcome as readonly TensorInfo[]);
      count(this.outcomes, 'valid');
    } else if (outcome instanceof FiligreeError) count(this.outcomes, outcome.code);
    else fail(kind, bytes, `an error without a type: ${outcome instanceof Error ? (outcome.stack ?? '') : String(outcome)}`);
  }

  /** Prints the counts. */
  report(what: string): void {
    const list = (counts: ReadonlyMap<string, number>) => [...counts].map(([name, times]) => `${name} ${times}`).join(', ');
    const memory = `at most ${(this.mostAllocated / 1024).toFixed(0)} KiB for one`;
    console.log(`${what}: ${this.total} spoiled files (${list(this.kinds)}) gave ${list(this.outcomes)}; ${memory}`);
  }

  async #checkTensors(kind: string, bytes: Uint8Array, tensors: readonly TensorInfo[]): Promise<void> {
    let end = 0;
    for (const { offset, byteLength } of tensors.toSorted((a, b) => a.offset - b.offset || a.byteLength - b.byteLength)) {
      if (!Number.isSafeInteger(offset) || offset < end)
        fail(kind, bytes, `a tensor at ${offset} overlaps one that ends at ${end}`);
      end = offset + byteLength;
    }
    if (end > bytes.byteLength) fail(kind, bytes, `a tensor ends at ${end} of ${bytes.byteLength} bytes`);
    for (const { source, offset, byteLength } of tensors)
      expect(await source.read(offset, byteLength)).toEqual(bytes.slice(offset, offset + byteLength));
  }
}

function count(counts: Map<string, number>, name: string): void {
  counts.set(name, (counts.get(name) ?? 0) + 1);
}

function allocated(): number {
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

function fail(kind: string, bytes: Uint8Array, what: string): never {
  throw new Error(`${kind}: ${what}\nfile: ${Buffer.from(bytes).toString('base64')}`);
}
