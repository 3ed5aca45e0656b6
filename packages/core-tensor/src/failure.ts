import type { OpCall } from './base-backend.js';
import { ExecutionError, FiligreeError } from './errors.js';
import { inputNames } from './op.js';
import { formatShape } from './shape.js';

/** What a call failed with, typed: errors of a kernel get the op's name and the shapes it was given. */
export function executionFailure({ op, inputs }: OpCall, error: unknown): FiligreeError {
  if (error instanceof FiligreeError && !(error instanceof ExecutionError)) return error;
  const shapes = inputs.map((tensor) => (tensor ? formatShape(tensor.shape) : 'none')).join(', ');
  const reason = error instanceof Error ? error.message : String(error);
  return new ExecutionError(`${op.name} on ${shapes}: ${reason}`, { cause: error });
}

/** The failure that an argument of the call carries. */
export function poisonOf({ inputs }: OpCall): FiligreeError | undefined {
  for (const tensor of inputs) if (tensor?.storage.poison) return tensor.storage.poison;
  return undefined;
}

/** Reads of what the call was to write reject from now on: its outputs and the arguments it mutates. */
export function poisonResults({ op, inputs, outputs }: OpCall, failure: FiligreeError): void {
  for (const { storage } of outputs) storage.poison ??= failure;
  const names = inputNames(op);
  for (const name of op.mutates) {
    const storage = inputs[names.indexOf(name)]?.storage;
    if (storage) storage.poison ??= failure;
  }
}
