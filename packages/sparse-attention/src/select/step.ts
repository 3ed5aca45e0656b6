import { fromArray, type Tensor } from '@filigree/core-tensor';
import { keyCapacity, type QueryLayout } from '../ops/check.js';
import type { SelectContext, SelectionPart } from '../selector.js';
import { lowerSelection, type SelectionBits } from './lower-selection.js';

/** Sizes of a step of a layer. */
export interface StepSizes {
  readonly batch: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly lengthQ: number;
  readonly dim: number;
  /** Keys that an element can have. */
  readonly capacity: number;
}

export function stepSizes({ q, queryLayout, k, table }: SelectContext): StepSizes {
  const [heads, lengthQ] = queryLayout === 'bhld' ? [q.shape[1], q.shape[2]] : [q.shape[2], q.shape[1]];
  return { batch: q.shape[0], heads, kvHeads: k.shape[1], lengthQ, dim: q.shape[3], capacity: keyCapacity(k, table) };
}

/** Where queries and keys lie, as the selection kernels take it. */
export function placed({ table, lengths, kvMap, queryLayout }: SelectContext): {
  readonly table: Tensor | undefined;
  readonly lengths: Tensor;
  readonly kvMap: Tensor | undefined;
  readonly queryLayout: QueryLayout;
} {
  return { table, lengths, kvMap, queryLayout };
}

/** Whether no element has more keys than that; unknown lengths are long. */
export function isShort({ lenK }: SelectContext, denseBelow: number): boolean {
  return lenK?.every((length) => length <= denseBelow) ?? false;
}

/** Constants on the backend of the step. */
export function constant(
  context: SelectContext,
  values: ArrayLike<number>,
  shape: readonly number[],
  dtype: 'f32' | 'i32' = 'f32',
): Tensor {
  return fromArray(context.q.backend, values, shape, dtype);
}

/**
 * The plan of what was selected. Every query sees the keys of its own row block up to itself, whether the blocks that were selected reach there or not:
 * row blocks count from the first query of the step, which may be anywhere in a block of keys.
 */
export function lowered(
  context: SelectContext,
  bits: Omit<SelectionBits, 'ranges' | 'lengths' | 'kvMap'>,
  options: {
    readonly blockQ: number;
    readonly blockK?: number | undefined;
    readonly slashStep?: number | undefined;
    readonly maxSlashes?: number | undefined;
    readonly maxColumns?: number | undefined;
  },
): SelectionPart {
  const { lengthQ, heads, capacity } = stepSizes(context);
  const { lengths, kvMap } = context;
  const own = constant(context, [-1, 0], [1, 1, 2], 'i32');
  return lowerSelection({ ...bits, ranges: own, lengths, kvMap }, { lengthQ, heads, capacity, ...options });
}
