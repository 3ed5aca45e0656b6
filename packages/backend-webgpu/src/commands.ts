import type { Storage } from '@filigree/core-tensor';
import type { PooledBuffer } from './buffer-pool.js';
import type { Pipeline } from './pipeline-cache.js';

/** A part of a buffer as it is bound: offset and size are multiples of what the device asks for. */
export interface BoundRange {
  readonly buffer: PooledBuffer;
  readonly offset: number;
  readonly size: number;
}

export interface DispatchCommand {
  readonly kind: 'dispatch';
  readonly pipeline: Pipeline;
  readonly bindings: readonly BoundRange[];
  /** Byte offset of its block in the uniform ring. */
  readonly block: number;
  readonly workgroups: readonly [number, number, number];
}

/** A dispatch with its bind group made, whose pipeline and buffers the device has confirmed. */
export interface BoundDispatch {
  readonly kind: 'bound';
  readonly pipeline: GPUComputePipeline;
  readonly group: GPUBindGroup;
  /** Of its block in the uniform buffer of the group. */
  readonly offsets: readonly [number];
  readonly workgroups: readonly [number, number, number];
}

/** A copy of whole words. */
export interface CopyCommand {
  readonly kind: 'copy';
  readonly from: PooledBuffer;
  readonly fromOffset: number;
  readonly to: PooledBuffer;
  readonly toOffset: number;
  readonly bytes: number;
}

/** A copy of whole words to a buffer that the host maps. */
export interface ReadCommand {
  readonly kind: 'read';
  readonly from: PooledBuffer;
  readonly fromOffset: number;
  readonly to: GPUBuffer;
  readonly bytes: number;
}

export type Command = DispatchCommand | BoundDispatch | CopyCommand | ReadCommand;

/** One op of the queue, recorded and not yet encoded. */
export interface QueuedOp {
  readonly name: string;
  /** As `profile()` reports it; undefined for the backend's own copies, which it does not report. */
  readonly variant: string | undefined;
  /** Shapes of the arguments, for messages. */
  readonly shapes: string;
  readonly reads: readonly Storage[];
  readonly writes: readonly Storage[];
  readonly signal: AbortSignal | undefined;
  readonly commands: readonly Command[];
  /** True for self-tests, whose failure is an answer and not an error of the queue. */
  readonly probe: boolean;
}
