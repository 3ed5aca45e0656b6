import { DTypeError, formatShape, OptionError, ShapeError, type DType, type Tensor } from '@filigree/core-tensor';
import type { KvLayerSpec } from '../page-pool.js';

export interface ExpectedRows {
  readonly spec: KvLayerSpec;
  /** Axes before the channels, as in `[n, 3]`; letters stand for what is equal in both. */
  readonly axes: readonly [number | string, number | string];
  readonly dtypes: readonly DType[];
}

/** @throws ShapeError or DTypeError unless keys and values are [*axes, channels], DisposedError when they are gone. */
export function checkRows(
  caller: string,
  { k, v }: { readonly k: Tensor; readonly v: Tensor },
  { spec, axes, dtypes }: ExpectedRows,
): void {
  for (const [name, rows, dim] of [['k', k, spec.kDim] as const, ['v', v, spec.vDim] as const]) {
    const sizes = [...axes, dim];
    if (rows.shape.length !== 3 || sizes.some((size, axis) => typeof size === 'number' && rows.shape[axis] !== size))
      throw new ShapeError(`${caller}: ${name} is ${formatShape(rows.shape)}, it must be [${sizes.join(', ')}]`);
    if (!dtypes.includes(rows.dtype))
      throw new DTypeError(`${caller}: ${name} is ${rows.dtype}, it takes ${dtypes.join(' or ')}`);
    rows.assertAlive(`${caller}: ${name}`);
  }
  if (k.shape[0] !== v.shape[0] || k.shape[1] !== v.shape[1])
    throw new ShapeError(
      `${caller}: k ${formatShape(k.shape)} and v ${formatShape(v.shape)} hold different numbers of entries`,
    );
}

/** @throws OptionError unless ids ascend and lie among `length` entries. */
export function checkIds(caller: string, ids: ArrayLike<number>, length: number): void {
  let before = -1;
  for (let index = 0; index < ids.length; index++) {
    const id = ids[index];
    if (!Number.isInteger(id) || id <= before || id >= length)
      throw new OptionError(`${caller}: entry ${id} at place ${index} does not ascend within the ${length} entries there are`);
    before = id;
  }
}
