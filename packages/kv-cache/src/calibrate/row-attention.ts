import { fromArray, mul, reduce, reshape, scope, slice, type Tensor } from '@filigree/core-tensor';
import type { LayerSample } from '@filigree/sparse-attention';
import { probabilities } from '../compress/probabilities.js';

/** Neighbouring positions: from `start` up to, not including, `end`. */
export interface Span {
  readonly start: number;
  readonly end: number;
}

/** Keys that a row may look at. */
export type Seen = (row: number) => readonly Span[];

/** Rows whose probabilities are there at a time. */
const rowsAtOnce = 64;

/** Causal probabilities of rows of a text, f32 [Hq, rows, L], in the scope of the caller. */
export function rowProbabilities({ backend, context, length, heads, kvHeads }: LayerSample, { start, end }: Span): Tensor {
  const { q, k, scale, softcap } = context;
  const dim = q.shape[3];
  const count = end - start;
  const hidden = Float32Array.from({ length: count * length }, (_, cell) =>
    cell % length > start + Math.floor(cell / length) ? -Infinity : 0,
  );
  const queries = reshape(slice(q, [0, start, 0, 0], [1, count, heads, dim]), [count, heads, dim]);
  const mask = fromArray(backend, hidden, [count, length]);
  return probabilities(queries, reshape(k, [kvHeads, length, dim]), { mask, scale, softcap });
}

/** Pieces of a span that are small enough for {@link rowProbabilities}. */
export function piecesOf({ start, end }: Span): Span[] {
  return Array.from({ length: Math.ceil((end - start) / rowsAtOnce) }, (_, piece) => {
    const first = start + piece * rowsAtOnce;
    return { start: first, end: Math.min(end, first + rowsAtOnce) };
  });
}

/** 1 where a row looks at the keys that `seen` names, else 0: f32 [rows, L]. */
export function rowMask({ backend, length }: LayerSample, { start, end }: Span, seen: Seen): Tensor {
  const cells = new Float32Array((end - start) * length);
  for (let row = start; row < end; row++)
    for (const span of seen(row)) {
      const at = (row - start) * length;
      cells.fill(1, at + Math.max(0, span.start), at + Math.max(0, span.start, span.end));
    }
  return fromArray(backend, cells, [end - start, length]);
}

/** Share of their attention that rows give to keys that each of `seen` names, on average over the rows of all spans: a number per query head. */
export async function meanAttention(sample: LayerSample, spans: readonly Span[], seen: readonly Seen[]): Promise<number[][]> {
  const sums = seen.map(() => new Array<number>(sample.heads).fill(0));
  for (const piece of spans.flatMap(piecesOf)) {
    const found = scope(() => {
      const chances = rowProbabilities(sample, piece);
      return seen.map((names) => reduce(reduce(mul(chances, rowMask(sample, piece, names)), 'sum'), 'sum'));
    });
    try {
      for (const [index, tensor] of found.entries())
        for (const [head, sum] of (await tensor.readNumbers()).entries()) sums[index][head] += sum;
    } finally {
      for (const tensor of found) tensor.dispose();
    }
  }
  const rows = spans.reduce((sum, { start, end }) => sum + end - start, 0);
  return sums.map((heads) => heads.map((sum) => sum / rows));
}
