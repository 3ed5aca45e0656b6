/** Whether positions of a stream ascend below `floor`, then count on to `end`, as those of every stream do since entries were evicted. */
export function positionsFit(positions: Int32Array, { end, floor }: { readonly end: number; readonly floor: number }): boolean {
  const since = positions.length - (end - floor);
  return positions.every((position, index) => {
    if (index >= since) return position === floor + index - since;
    return position >= 0 && position < floor && (index === 0 || position > positions[index - 1]);
  });
}
