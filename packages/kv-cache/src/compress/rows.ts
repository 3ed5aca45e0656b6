import { ExecutionError, scope, type Tensor } from '@filigree/core-tensor';

/** How scores of the query heads that share a key-value head become one. */
export type GroupReduction = 'mean' | 'max' | 'sum';

/** One-dimensional pooling along entries: an odd size, as many results as scores; what lies outside counts as nothing. */
export interface Pooling {
  readonly kind: 'avg' | 'max';
  readonly size: number;
}

/** One row per key-value head. Rows of query heads come in order, those of a group side by side. */
export function groupRows(rows: readonly Float32Array[], kvHeads: number, reduction: GroupReduction): Float32Array[] {
  const group = rows.length / kvHeads;
  return Array.from({ length: kvHeads }, (_, head) => {
    const members = rows.slice(head * group, (head + 1) * group);
    if (members.length === 1) return members[0];
    return Float32Array.from(members[0], (_score, index) => {
      const values = members.map((row) => row[index]);
      if (reduction === 'max') return Math.max(...values);
      const sum = values.reduce((total, value) => total + value, 0);
      return reduction === 'mean' ? sum / group : sum;
    });
  });
}

/** Scores smoothed along their row. An average is over the entries there are, so that both ends are not at a disadvantage. */
export function poolRows(row: Float32Array, pooling: Pooling | undefined): Float32Array {
  if (!pooling || pooling.size === 1) return row;
  const half = (pooling.size - 1) / 2;
  return row.map((_, index) => {
    const near = row.subarray(Math.max(0, index - half), index + half + 1);
    if (pooling.kind === 'max') return near.reduce((a, b) => Math.max(a, b), -Infinity);
    return near.reduce((a, b) => a + b, 0) / near.length;
  });
}

/** @throws ExecutionError naming the first score that is NaN. */
export function expectNumbers(method: string, layer: number, rows: readonly Float32Array[]): void {
  for (const [head, row] of rows.entries()) {
    const bad = row.findIndex(Number.isNaN);
    if (bad >= 0) throw new ExecutionError(`${method}: the score of entry ${bad}, head ${head} of layer ${layer}, is NaN`);
  }
}

/** Rows of `length` of what is made in a scope of its own, on the host. */
export async function readRows(make: () => Tensor, length: number): Promise<Float32Array[]> {
  const tensor = scope(make);
  try {
    const numbers = await tensor.readNumbers();
    return Array.from({ length: tensor.size / length }, (_, row) =>
      Float32Array.from(numbers.subarray(row * length, (row + 1) * length)),
    );
  } finally {
    tensor.dispose();
  }
}
