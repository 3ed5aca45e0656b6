import type { GgufValue } from '@filigree/checkpoint';
import { groupBy } from '../group-by.js';
import { tensorPart, tensorParts, type TensorPart } from './tensor-part.js';

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

/** Tensors that have something in common, added up. */
export interface Share {
  readonly tensors: number;
  readonly parameters: number;
  readonly bytes: number;
}

/** All tensors of one type. */
export interface TypeShare extends Share {
  readonly type: string;
}

/** All tensors that are the same part of a model. */
export interface PartShare extends Share {
  readonly part: TensorPart;
  /** Largest first. */
  readonly types: readonly TypeShare[];
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
  return [...groupBy(tensors, ({ type }) => type)]
    .map(([type, members]) => ({ type, ...totals(members) }))
    .sort((a, b) => b.bytes - a.bytes);
}

/** Which types the parts of the model have, in the order of {@link tensorParts}. */
export function partShares(tensors: readonly InspectedTensor[]): PartShare[] {
  const byPart = groupBy(tensors, ({ name }) => tensorPart(name));
  return tensorParts.flatMap((part) => {
    const members = byPart.get(part);
    return members ? [{ part, ...totals(members), types: typeShares(members) }] : [];
  });
}

/** Everything added up. */
export function totals(tensors: readonly InspectedTensor[]): Share {
  const sum = (value: (tensor: InspectedTensor) => number): number =>
    tensors.reduce((total, tensor) => total + value(tensor), 0);
  return { tensors: tensors.length, parameters: sum((tensor) => tensor.parameters), bytes: sum((tensor) => tensor.bytes) };
}
