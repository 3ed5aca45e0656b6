import { bf16ToNumber, numberToBf16, type HostTensor } from '@filigree/core-tensor';
import type { Precision } from './check.js';

/** Where queries and keys of a call lie; shared by the definitions of the executors. */
export interface AttentionGeometry {
  readonly batch: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly lengthQ: number;
  readonly dim: number;
  readonly valueDim: number;
  /** Element index of the row of (batch, head, query) in q and o, in rows. */
  row(batch: number, head: number, query: number): number;
  /** Row of key `position` of a batch element among the rows of k and v. */
  keyRow(batch: number, kvHead: number, position: number): number;
}

/** Reads the geometry of q [B,Hq,Lq,D] (`bhld`) or [B,Lq,Hq,D] (`blhd`) and pages k [pages,Hk,P,D]. */
export function geometryOf(
  q: HostTensor,
  k: HostTensor,
  v: HostTensor,
  table: HostTensor | undefined,
  layout: string,
): AttentionGeometry {
  const headsFirst = layout === 'bhld';
  const batch = q.shape[0];
  const [heads, lengthQ] = headsFirst ? [q.shape[1], q.shape[2]] : [q.shape[2], q.shape[1]];
  const [, kvHeads, pageSize] = k.shape;
  const perBatch = table ? table.shape[1] : 1;
  return {
    batch,
    heads,
    kvHeads,
    lengthQ,
    dim: q.shape[3],
    valueDim: v.shape[3],
    row: (b, head, query) => (headsFirst ? (b * heads + head) * lengthQ + query : (b * lengthQ + query) * heads + head),
    keyRow(b, kvHead, position) {
      const page = table ? table.data[b * perBatch + Math.floor(position / pageSize)] : b;
      const entry = table ? position % pageSize : position;
      return (page * kvHeads + kvHead) * pageSize + entry;
    },
  };
}

/** The nearest bfloat16; below 2^−126 it is 0. */
const roundToBf16 = (value: number): number => (Math.abs(value) < 2 ** -126 ? 0 : bf16ToNumber(numberToBf16(value)));

/** Weights of the scores, relative to the one whose logarithm is returned too: e^(score − largest), or its bfloat16. */
function weightsOf(scores: readonly number[], precision: Precision): { weights: number[]; largest: number } {
  const largest = scores.reduce((a, b) => (b > a ? b : a), -1e30);
  if (precision === 'f32') return { weights: scores.map((score) => Math.exp(score - largest)), largest };
  // A whole power of two: what the weights are relative to has no part in how they round.
  const exponent = Math.ceil(largest * Math.LOG2E);
  return {
    weights: scores.map((score) => roundToBf16(2 ** (score * Math.LOG2E - exponent))),
    largest: exponent * Math.LN2,
  };
}

/**
 * Exact attention of one query row over the visible keys, in f64. A row without keys gives o = 0, lse = −∞. In `bf16`, q, k, v and the weights of the
 * values are rounded to bfloat16, and o is divided by the sum of the rounded weights.
 */
export function attendRow(
  io: { q: HostTensor; k: HostTensor; v: HostTensor; o: HostTensor; lse: HostTensor },
  geometry: AttentionGeometry,
  at: { batch: number; head: number; query: number },
  keys: readonly number[],
  { scale, softcap, precision }: { scale: number; softcap: number; precision: Precision },
): void {
  const { dim, valueDim, heads, kvHeads, lengthQ } = geometry;
  const round = precision === 'bf16' ? roundToBf16 : (value: number): number => value;
  const kvHead = Math.floor(at.head / (heads / kvHeads));
  const row = geometry.row(at.batch, at.head, at.query);
  const query = Array.from(io.q.data.subarray(row * dim, (row + 1) * dim), round);
  const scores = keys.map((key) => {
    const keyAt = geometry.keyRow(at.batch, kvHead, key) * dim;
    let dot = 0;
    for (let channel = 0; channel < dim; channel++) dot += query[channel] * round(io.k.data[keyAt + channel]);
    return softcap > 0 ? softcap * Math.tanh((scale * dot) / softcap) : scale * dot;
  });
  const { weights, largest } = weightsOf(scores, precision);
  const sum = weights.reduce((a, b) => a + b, 0);
  io.lse.data[(at.batch * heads + at.head) * lengthQ + at.query] = sum === 0 ? -Infinity : largest + Math.log(sum);
  if (sum === 0) return;
  for (let channel = 0; channel < valueDim; channel++) {
    let value = 0;
    for (const [index, key] of keys.entries())
      value += weights[index] * round(io.v.data[geometry.keyRow(at.batch, kvHead, key) * valueDim + channel]);
    io.o.data[row * valueDim + channel] = value / sum;
  }
}
