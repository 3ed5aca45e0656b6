import type { GgufValue } from '@filigree/checkpoint';

/** A tensor as it lies in a file. */
export interface InspectedTensor {
  readonly name: string;
  readonly type: string;
  /** Row-major. */
  readonly shape: readonly number[];
  readonly parameters: number;
  readonly bytes: number;
  /** From the start of `file`. */
  readonly offset: number;
  /** Of several files, the one it lies in. */
  readonly file: string;
}

/** All tensors of one type. */
export interface TypeShare {
  readonly type: string;
  readonly tensors: number;
  readonly parameters: number;
  readonly bytes: number;
}

/** What is in a checkpoint, read from its header alone. */
export interface Inspection {
  readonly file: string;
  readonly format: 'gguf' | 'safetensors';
  /** Of GGUF only. */
  readonly version?: number;
  /** Of all files. */
  readonly bytes: number;
  readonly tensors: readonly InspectedTensor[];
  readonly metadata: ReadonlyMap<string, GgufValue>;
}

/** The mix of types, largest first. */
export function typeShares(tensors: readonly InspectedTensor[]): TypeShare[] {
  const shares = new Map<string, TypeShare>();
  for (const { type, parameters, bytes } of tensors) {
    const share = shares.get(type) ?? { type, tensors: 0, parameters: 0, bytes: 0 };
    shares.set(type, {
      type,
      tensors: share.tensors + 1,
      parameters: share.parameters + parameters,
      bytes: share.bytes + bytes,
    });
  }
  return [...shares.values()].sort((a, b) => b.bytes - a.bytes);
}

/** Everything added up. */
export function totals(tensors: readonly InspectedTensor[]): Omit<TypeShare, 'type'> {
  const sum = (value: (tensor: InspectedTensor) => number): number =>
    tensors.reduce((total, tensor) => total + value(tensor), 0);
  return { tensors: tensors.length, parameters: sum((tensor) => tensor.parameters), bytes: sum((tensor) => tensor.bytes) };
}
