import type { ProfileEntry } from '@filigree/core-tensor';
import type { QueuedOp } from './commands.js';
import { mapModeRead, usage } from './flags.js';

/** The profile of one batch: where its passes write their timestamps, and how they come back. */
export interface BatchProfile {
  /** For the pass of op `index`; undefined without timestamp queries. */
  writes(index: number): GPUComputePassTimestampWrites | undefined;
  /** Records the copy of the timestamps, behind the passes. */
  resolve(encoder: GPUCommandEncoder): void;
  /** Call after the batch was submitted. */
  submitted(): void;
}

/** Collects one entry per op: from timestamp queries, or where the device has none from the time each op's own submission took. */
export class Profiler {
  readonly #batches: Promise<ProfileEntry[]>[] = [];
  #lastDone = 0;

  constructor(
    private readonly device: GPUDevice,
    readonly timestamps: boolean,
  ) {}

  begin(ops: readonly QueuedOp[]): BatchProfile {
    return this.timestamps ? this.#byTimestamps(ops) : this.#byClock(ops);
  }

  async entries(): Promise<ProfileEntry[]> {
    return (await Promise.all(this.#batches)).flat();
  }

  #byTimestamps(ops: readonly QueuedOp[]): BatchProfile {
    const { device } = this;
    const bytes = 16 * ops.length;
    const querySet = device.createQuerySet({ type: 'timestamp', count: 2 * ops.length });
    const resolved = device.createBuffer({ size: bytes, usage: usage.queryResolve | usage.copySource });
    const readable = device.createBuffer({ size: bytes, usage: usage.mapRead | usage.copyTarget });
    return {
      writes: (index) => ({ querySet, beginningOfPassWriteIndex: 2 * index, endOfPassWriteIndex: 2 * index + 1 }),
      resolve: (encoder) => {
        encoder.resolveQuerySet(querySet, 0, 2 * ops.length, resolved, 0);
        encoder.copyBufferToBuffer(resolved, 0, readable, 0, bytes);
      },
      submitted: () => {
        const collected = readable.mapAsync(mapModeRead).then(() => {
          const times = new BigUint64Array(readable.getMappedRange().slice(0));
          const entries = ops.map((op, index) => entryOf(op, Number(times[2 * index + 1] - times[2 * index]) / 1e6));
          for (const made of [querySet, resolved, readable]) made.destroy();
          return entries.filter((entry) => entry !== undefined);
        });
        this.#batches.push(collected);
        // Whoever stops the profile sees the failure; until then it is nobody's unhandled rejection.
        collected.catch(() => undefined);
      },
    };
  }

  #byClock(ops: readonly QueuedOp[]): BatchProfile {
    const started = performance.now();
    return {
      writes: () => undefined,
      resolve: () => undefined,
      submitted: () => {
        const collected = this.device.queue.onSubmittedWorkDone().then(() => {
          const now = performance.now();
          const milliseconds = now - Math.max(started, this.#lastDone);
          this.#lastDone = now;
          return ops.map((op) => entryOf(op, milliseconds / ops.length)).filter((entry) => entry !== undefined);
        });
        this.#batches.push(collected);
        collected.catch(() => undefined);
      },
    };
  }
}

function entryOf(op: QueuedOp, milliseconds: number): ProfileEntry | undefined {
  if (op.variant === undefined || op.probe) return undefined;
  return { op: op.name, kernel: 'webgpu', variant: op.variant, milliseconds };
}
