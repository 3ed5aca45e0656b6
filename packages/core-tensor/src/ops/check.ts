import type { DType } from '../dtype.js';
import { DTypeError, ShapeError } from '../errors.js';
import type { TensorMeta } from '../op.js';
import { formatShape } from '../shape.js';

/** Throws a DTypeError naming op and argument unless `meta` has one of the dtypes. */
export function expectDType(op: string, name: string, meta: TensorMeta, ...dtypes: readonly DType[]): void {
  if (!dtypes.includes(meta.dtype)) throw new DTypeError(`${op}: ${name} is ${meta.dtype}, it takes ${dtypes.join(' or ')}`);
}

/** Throws a ShapeError naming op and argument unless `meta` has `rank` axes. */
export function expectRank(op: string, name: string, meta: TensorMeta, rank: number, axes: string): void {
  if (meta.shape.length !== rank) {
    throw new ShapeError(`${op}: ${name} is ${formatShape(meta.shape)}, it takes ${axes}`);
  }
}

/** Length of the last axis; throws for a scalar. */
export function lastAxis(op: string, name: string, meta: TensorMeta): number {
  if (meta.shape.length === 0) throw new ShapeError(`${op}: ${name} is a scalar, it needs a last axis`);
  return meta.shape[meta.shape.length - 1];
}

/** Rows of a tensor seen as [rows, last axis]. */
export function rowCount(meta: TensorMeta): number {
  return meta.shape.slice(0, -1).reduce((product, dimension) => product * dimension, 1);
}
