import { fromArray, gatherRows, keep, reshape, scope, slice, type Tensor } from '@filigree/core-tensor';
import type { CompressContext } from './compressor.js';

/** Entries of a prompt that count as a prompt of their own, and the queries that look at them. */
export interface SubPrompt {
  /** Entries per key-value head, as many for each, ascending; the last ones are neighbours. */
  readonly entries: readonly ArrayLike<number>[];
  /** Positions of the queries: they belong to the last entries. */
  readonly queries: { readonly start: number; readonly end: number };
}

/**
 * Runs `use` on a context of some entries. Keys and queries stay as they were rotated, and it is their distances that count; only where the prompt begins is
 * somewhere else for what turns them back.
 */
export async function withSubContext<T>(
  context: CompressContext,
  { entries, queries }: SubPrompt,
  use: (part: CompressContext) => Promise<T>,
): Promise<T> {
  const { backend, k, v, q, length, kvHeads } = context;
  const [, seen, heads, dim] = q.shape;
  const count = entries[0].length;
  const made = scope(() => {
    const rows = entries.flatMap((ids, head) => Array.from(ids, (id) => head * length + id));
    const ids = fromArray(backend, rows, [rows.length], 'i32');
    const some = (x: Tensor): Tensor =>
      keep(reshape(gatherRows(reshape(x, [kvHeads * length, x.shape[2]]), ids), [kvHeads, count, x.shape[2]]));
    const before = length - seen;
    const [start, end] = [Math.max(queries.start, before), Math.max(queries.end, before)];
    const own = keep(slice(q, [0, start - before, 0, 0], [1, end - start, heads, dim]));
    return { k: some(k), v: some(v), q: own };
  });
  try {
    return await use({ ...context, ...made, length: count, bias: undefined, received: undefined });
  } finally {
    for (const tensor of Object.values(made)) tensor.dispose();
  }
}
