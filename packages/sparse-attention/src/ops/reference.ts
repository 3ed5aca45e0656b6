import { bf16ToNumber, ExecutionError, numberToBf16, type HostTensor } from '@filigree/core-tensor';
import type { Precision } from './check.js';
import { keptByScores, keptOfTiles, type ScoreOptions } from './kept-keys.js';

/** Where queries and keys of a call lie; shared by the definitions of the executors. */
export interface AttentionGeometry {
  readonly batch: number;
  readonly heads: number;
  readonly lengthQ: number;
  readonly dim: number;
  /** Row of (batch, head, query) among the rows of q and o. */
  row(batch: number, head: number, query: number): number;
  /** Row of the key at `position` that query head `head` reads, among the rows of k and v. */
  keyRow(batch: number, head: number, position: number): number;
}

/**
 * Reads the geometry of q [B,Hq,Lq,D] (`bhld`) or [B,Lq,Hq,D] (`blhd`) and pages k [pages,Hk,P,D].
 *
 * @throws ExecutionError when kvMap names a key-value head that is not there, or there is none and heads do not share key-value heads evenly.
 */
export function geometryOf(
  { q, k, table }: { q: HostTensor; k: HostTensor; table?: HostTensor | undefined },
  layout: string,
  kvMap?: ArrayLike<number>,
): AttentionGeometry {
  const headsFirst = layout === 'bhld';
  const batch = q.shape[0];
  const [heads, lengthQ] = headsFirst ? [q.shape[1], q.shape[2]] : [q.shape[2], q.shape[1]];
  const [, kvHeads, pageSize] = k.shape;
  const perBatch = table ? table.shape[1] : 1;
  const kvHead = Array.from({ length: heads }, (_, head) => kvMap?.[head] ?? head / (heads / kvHeads)).map(Math.floor);
  if (kvHead.some((head) => !(head >= 0 && head < kvHeads)) || (!kvMap && heads % kvHeads !== 0)) {
    throw new ExecutionError(`attention: query heads map to key-value heads ${kvHead.join(', ')}, there are ${kvHeads}`);
  }
  return {
    batch,
    heads,
    lengthQ,
    dim: q.shape[3],
    row: (b, head, query) => (headsFirst ? (b * heads + head) * lengthQ + query : (b * lengthQ + query) * heads + head),
    keyRow(b, head, position) {
      const page = table ? table.data[b * perBatch + Math.floor(position / pageSize)] : b;
      const entry = table ? position % pageSize : position;
      return (page * kvHeads + kvHead[head]) * pageSize + entry;
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

/** One query row of a call. */
export interface RowPlace {
  readonly batch: number;
  readonly head: number;
  readonly query: number;
}

/** What a query sees: keys, ascending, and the tile each of them is in. */
export interface VisibleKeys {
  readonly keys: readonly number[];
  readonly tiles: readonly number[];
  /** Place of the query in the cache, which spans of N:M softmax are measured from. */
  readonly position: number;
}

/** Those of the visible keys that are shown. */
export function someKeys({ keys, tiles, position }: VisibleKeys, shown: (key: number) => boolean): VisibleKeys {
  const kept = [...keys.keys()].filter((index) => shown(keys[index]));
  return { keys: kept.map((index) => keys[index]), tiles: kept.map((index) => tiles[index]), position };
}

/** What is added to the scores of a row of keys; −∞ hides it. */
export function biasOf({ bias }: { bias?: HostTensor | undefined }, keyRow: number): number {
  return bias ? bias.data[keyRow] : 0;
}

/** Scores of a query row against keys, in f64. */
export function scoresOf(
  { q, k, bias }: { q: HostTensor; k: HostTensor; bias?: HostTensor | undefined },
  geometry: AttentionGeometry,
  { batch, head, query }: RowPlace,
  keys: readonly number[],
  { scale, softcap, precision }: Pick<ScoreOptions, 'scale' | 'softcap' | 'precision'>,
): number[] {
  const { dim } = geometry;
  const round = precision === 'bf16' ? roundToBf16 : (value: number): number => value;
  const row = geometry.row(batch, head, query);
  const own = Array.from(q.data.subarray(row * dim, (row + 1) * dim), round);
  return keys.map((key) => {
    const keyRow = geometry.keyRow(batch, head, key);
    const keyAt = keyRow * dim;
    let dot = 0;
    for (let channel = 0; channel < dim; channel++) dot += own[channel] * round(k.data[keyAt + channel]);
    const score = softcap > 0 ? softcap * Math.tanh((scale * dot) / softcap) : scale * dot;
    return score + biasOf({ bias }, keyRow);
  });
}

/**
 * Exact attention of one query row over the keys it sees, in f64. A row without keys gives o = 0, lse = −∞. In `bf16`, q, k, v and the weights of the
 * values are rounded to bfloat16, and o is divided by the sum of the rounded weights.
 */
export function attendRow(
  io: { q: HostTensor; k: HostTensor; v: HostTensor; bias?: HostTensor | undefined; o: HostTensor; lse: HostTensor },
  geometry: AttentionGeometry,
  place: RowPlace,
  visible: VisibleKeys,
  options: ScoreOptions,
): void {
  const { batch, head, query } = place;
  const valueDim = io.v.shape[3];
  const round = options.precision === 'bf16' ? roundToBf16 : (value: number): number => value;
  const all = scoresOf(io, geometry, place, visible.keys, options);
  const kept = keptOfTiles(all, visible, keptByScores(all, visible, options), options.pvSkip);
  const [keys, scores] = [kept.map((index) => visible.keys[index]), kept.map((index) => all[index])];
  const { weights, largest } = weightsOf(scores, options.precision);
  const sum = weights.reduce((a, b) => a + b, 0);
  io.lse.data[(batch * geometry.heads + head) * geometry.lengthQ + query] = sum === 0 ? -Infinity : largest + Math.log(sum);
  if (sum === 0) return;
  const row = geometry.row(batch, head, query);
  for (let channel = 0; channel < valueDim; channel++) {
    let value = 0;
    for (const [index, key] of keys.entries())
      value += weights[index] * round(io.v.data[geometry.keyRow(batch, head, key) * valueDim + channel]);
    io.o.data[row * valueDim + channel] = value / sum;
  }
}
