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

/** @throws OptionError unless it is one of `length` entries. */
export function checkEntry(caller: string, entry: number, length: number): void {
  if (!Number.isInteger(entry) || entry < 0 || entry >= length)
    throw new OptionError(`${caller}: entry ${entry} is none of the ${length} entries there are`);
}

/** The first number that is ∞ or none, which nothing adds to scores; −1 without one. */
export function unboundedAt(numbers: ArrayLike<number>): number {
  return Array.from(numbers).findIndex((value) => !(value < Infinity));
}

/** @throws OptionError unless there is one number below ∞ for each of `length` entries. */
export function checkBias(caller: string, numbers: ArrayLike<number>, length: number): void {
  expectCount(caller, numbers, length, 'numbers');
  const bad = unboundedAt(numbers);
  if (bad >= 0) throw new OptionError(`${caller}: the number of entry ${bad} is ${numbers[bad]}, it must be below ∞`);
}

/** @throws OptionError unless there is one position for each of `length` entries. */
export function checkPositions(caller: string, positions: ArrayLike<number>, length: number): void {
  expectCount(caller, positions, length, 'positions');
  const bad = Array.from(positions).findIndex(
    (position) => !(Number.isInteger(position) && position >= 0 && position < 2 ** 31 - 1),
  );
  if (bad >= 0) throw new OptionError(`${caller}: position ${positions[bad]} of entry ${bad} is no non-negative integer`);
}

function expectCount(caller: string, list: ArrayLike<number>, length: number, what: string): void {
  if (list.length !== length) throw new OptionError(`${caller}: there are ${list.length} ${what} for ${length} entries`);
}
