import type { SelectContext, SelectionPart } from '../selector.js';
import { lowerSelection, type LowerSelectionOptions, type SelectionBits } from './lower-selection.js';
import { constant, stepSizes } from './step.js';

/** A range of keys as `lowerSelection` takes it: (0, n) are n sinks, (−w, 0) the last w keys of a row block's queries, (0, 0) everything. */
export type LoweredRange = readonly [start: number, end: number];

/** The first `sinks` keys and the last `window` of a row block's queries. */
export function sinksAndWindow(sinks: number, window: number): readonly LoweredRange[] {
  // (0, 0) would be everything.
  return sinks > 0
    ? [
        [0, sinks],
        [-window, 0],
      ]
    : [[-window, 0]];
}

/** The plan of what was selected, beside the same ranges for every row block; the last `excluded` of them belong to another part. */
export function loweredWithRanges(
  context: SelectContext,
  ranges: readonly LoweredRange[],
  bits: Omit<SelectionBits, 'ranges' | 'lengths' | 'kvMap'>,
  options: Omit<LowerSelectionOptions, 'lengthQ' | 'heads' | 'capacity'>,
): Extract<SelectionPart, { readonly plan: unknown }> {
  const { lengthQ, heads, capacity } = stepSizes(context);
  const { lengths, kvMap } = context;
  const given = constant(context, ranges.flat(), [1, ranges.length, 2], 'i32');
  return lowerSelection({ ...bits, ranges: given, lengths, kvMap }, { lengthQ, heads, capacity, ...options });
}
