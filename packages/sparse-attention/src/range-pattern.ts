import type { BlockMask, MaskShape } from './mask.js';

/** Queries per row block of patterns made of ranges: the executors' own block. */
const blockQ = 16;

/**
 * A causal mask from the key ranges of every single query, one mask for all heads. Row blocks hold the union of their queries' ranges, so
 * `ranges` must move with the position (sinks and windows): what the union adds to a query is at most `blockQ − 1` keys at the start of
 * its window.
 */
export function rangePattern(
  shape: MaskShape,
  ranges: (position: number, lenK: number, lastPosition: number) => readonly (readonly [number, number])[],
): BlockMask {
  const rowsPer = Math.ceil(Math.max(0, ...shape.lenQ) / blockQ);
  const pointers = [0];
  const items: number[] = [];
  const qOffset = shape.qOffset ?? shape.lenK.map((length, index) => length - shape.lenQ[index]);
  for (let batch = 0; batch < shape.batch; batch++) {
    const last = qOffset[batch] + shape.lenQ[batch] - 1;
    const promptLast = (shape.promptEnd?.[batch] ?? last + 1) - 1;
    for (let row = 0; row < rowsPer; row++) {
      const first = qOffset[batch] + row * blockQ;
      for (let position = first; position <= Math.min(last, first + blockQ - 1); position++) {
        for (const [start, end] of ranges(position, shape.lenK[batch], promptLast)) {
          const clipped = [Math.max(0, start), Math.min(end, shape.lenK[batch])];
          if (clipped[1] > clipped[0]) items.push(...clipped);
        }
      }
      pointers.push(items.length / 2);
    }
  }
  return {
    batch: shape.batch,
    maskHeads: 1,
    headMap: new Int32Array(shape.heads),
    lenQ: Int32Array.from(shape.lenQ),
    lenK: Int32Array.from(shape.lenK),
    qOffset: Int32Array.from(qOffset),
    blockQ,
    blockK: 64,
    causal: true,
    window: 0,
    rowPtr: new Int32Array(shape.batch * rowsPer + 1),
    colIdx: new Int32Array(0),
    rangePtr: Int32Array.from(pointers),
    ranges: Int32Array.from(items),
  };
}
