import {
  ResultPlaces,
  type AnyOp,
  type BufferHandle,
  type ShaderVariant,
  type Storage,
  type Tensor,
} from '@filigree/core-tensor';
import type { PooledBuffer } from './buffer-pool.js';
import type { Capture, CapturedOp } from './capture.js';
import { bufferOf, GpuBuffer } from './gpu-buffer.js';

/** An input of the captured run. */
export interface StepInput {
  /** To know it again; not held. */
  readonly storage: Storage;
  readonly buffer: PooledBuffer;
  readonly byteOffset: number;
  readonly bytes: number;
  readonly shape: Tensor['shape'];
  readonly dtype: Tensor['dtype'];
  /** Whether the step writes its buffer, and how many of its ops do. */
  readonly writes: number;
}

/** A buffer that outlives the step: part of what it returns. */
export interface StepResult {
  readonly handle: BufferHandle;
  readonly buffer: PooledBuffer;
  readonly bytes: number;
}

/** A captured run in terms of what changes from one replay to the next. Buffers that are neither of an input, nor a result's nor outside are its own. */
export interface RecordedStep {
  readonly ops: readonly CapturedOp[];
  readonly inputs: readonly StepInput[];
  readonly results: readonly StepResult[];
  /** Retained by the recording. */
  readonly outside: readonly Storage[];
  /** What of that it writes, once for every op that does. */
  readonly mutated: readonly Storage[];
  readonly variants: ReadonlyMap<AnyOp, ShaderVariant>;
  readonly out: ResultPlaces;
}

/** Undefined when the step kept buffers in a way that a replay cannot repeat. */
export function recordedStep(capture: Capture, given: readonly Tensor[], result: unknown): RecordedStep | undefined {
  const out = new ResultPlaces(result);
  const { kept, ops, variants } = capture;
  if (out.handles.size !== kept.size || [...kept].some((handle) => !out.handles.has(handle))) return undefined;
  const storages = new Set(given.map(({ storage }) => storage));
  const inputs = given.map(({ storage, byteOffset, bytes, shape, dtype }) => {
    const writes = capture.mutated.filter((written) => written === storage).length;
    return { storage, buffer: bufferOf(storage), byteOffset, bytes, shape, dtype, writes };
  });
  const results: StepResult[] = [];
  for (const handle of kept)
    if (handle instanceof GpuBuffer) results.push({ handle, buffer: handle.pooled, bytes: handle.bytes });
  const mutated = capture.mutated.filter((storage) => !storages.has(storage));
  return { ops, inputs, results, outside: [...capture.outside], mutated, variants, out };
}

/** Whether tensors can take the places of the inputs of the captured run. */
export function fits({ inputs, mutated }: RecordedStep, given: readonly Tensor[]): boolean {
  if (given.length !== inputs.length) return false;
  for (const [index, tensor] of given.entries()) {
    const input = inputs[index];
    if (tensor.dtype !== input.dtype || tensor.backend !== input.storage.backend) return false;
    if (tensor.shape.length !== input.shape.length || tensor.shape.some((size, axis) => size !== input.shape[axis]))
      return false;
    // Inputs of which one buffer held common bytes move together or not at all.
    const moved = tensor.byteOffset - input.byteOffset;
    for (let other = 0; other < index; other++) {
      if (!overlap(inputs[other], input)) continue;
      if (given[other].storage !== tensor.storage || given[other].byteOffset - inputs[other].byteOffset !== moved) return false;
    }
  }
  return given.every(({ storage }, index) => {
    // An input that lies where the step writes, and did not then: a copy of it would not see what is written.
    const shared = inputs.some(
      (other, at) => other.writes > 0 && given[at].storage === storage && other.storage !== inputs[index].storage,
    );
    return !shared && !mutated.includes(storage);
  });
}

function overlap(a: StepInput, b: StepInput): boolean {
  if (a.storage !== b.storage || a.bytes === 0 || b.bytes === 0) return false;
  return a.byteOffset < b.byteOffset + b.bytes && b.byteOffset < a.byteOffset + a.bytes;
}
