import type { HostTensor } from '@filigree/core-tensor';

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

/** Exact attention of one query row over the visible keys, in f64. A row without keys gives o = 0, lse = −∞. */
export function attendRow(
  io: { q: HostTensor; k: HostTensor; v: HostTensor; o: HostTensor; lse: HostTensor },
  geometry: AttentionGeometry,
  at: { batch: number; head: number; query: number },
  keys: readonly number[],
  { scale, softcap }: { scale: number; softcap: number },
): void {
  const { dim, valueDim, heads, kvHeads, lengthQ } = geometry;
  const kvHead = Math.floor(at.head / (heads / kvHeads));
  const row = geometry.row(at.batch, at.head, at.query);
  const scores = keys.map((key) => {
    const keyAt = geometry.keyRow(at.batch, kvHead, key) * dim;
    let dot = 0;
    for (let channel = 0; channel < dim; channel++) dot += io.q.data[row * dim + channel] * io.k.data[keyAt + channel];
    return softcap > 0 ? softcap * Math.tanh((scale * dot) / softcap) : scale * dot;
  });
  const largest = scores.reduce((a, b) => (b > a ? b : a), -1e30);
  const weights = scores.map((score) => Math.exp(score - largest));
  const sum = weights.reduce((a, b) => a + b, 0);
  io.lse.data[(at.batch * heads + at.head) * lengthQ + at.query] = sum === 0 ? -Infinity : largest + Math.log(sum);
  if (sum === 0) return;
  for (let channel = 0; channel < valueDim; channel++) {
    let value = 0;
    for (const [index, key] of keys.entries())
      value += weights[index] * io.v.data[geometry.keyRow(at.batch, kvHead, key) * valueDim + channel];
    io.o.data[row * valueDim + channel] = value / sum;
  }
}
