import { narrow, permute, reshape, type Tensor } from '@filigree/core-tensor';
import { appendOp, type StreamCache } from '@filigree/kv-cache';
import { attention } from '@filigree/sparse-attention';
import type { SequenceKv, StepKv } from './sequence-kv.js';

/** Entries that differ from head to head: the key-value heads of a layer are the elements of a batch. */
export class StreamKv implements SequenceKv {
  #shapes = '';

  constructor(private readonly cache: StreamCache) {}

  get end(): number {
    return this.cache.positionsEnd;
  }

  get shapes(): string {
    return this.#shapes;
  }

  reserve(count: number): readonly Tensor[] {
    const { positions, slots, lengths, table } = this.cache.reserve(count);
    this.#shapes = `${table.shape[1]} ${this.cache.biases ? 'biased' : 'unbiased'}`;
    return [positions, slots, lengths, table];
  }

  step([positions, slots, lengths, table]: readonly Tensor[]): StepKv {
    const { pool, kvHeads, biases: bias } = this.cache;
    const [k, v] = [pool.keys[0], pool.values[0]];
    const ofLayer = (tensor: Tensor, layer: number): Tensor => narrow(tensor, layer * kvHeads, kvHeads);
    return {
      positions,
      layer: (index) => ({
        append: (newK, newV) => {
          const own = reshape(narrow(slots, index, 1), [slots.shape[1]]);
          appendOp({ keyPages: k, valuePages: v, k: single(newK), v: single(newV), slots: own }, {});
        },
        attend: (q, options) => {
          const places = { table: ofLayer(table, index), lengths: ofLayer(lengths, index) };
          const { o } = attention(headsApart(q, kvHeads), k, v, { ...options, ...places, bias, queryLayout: 'blhd' });
          return headsTogether(o);
        },
      }),
    };
  }

  visible(layer: number, count: number): number {
    const { kvHeads } = this.cache;
    let entries = 0;
    for (let head = 0; head < kvHeads; head++) entries += this.cache.length(layer, head);
    return (entries / kvHeads) * count - (count * (count - 1)) / 2;
  }
}

/** [T, Hk, D] as T · Hk rows of one head. */
function single(rows: Tensor): Tensor {
  const [count, heads, dim] = rows.shape;
  return reshape(rows, [count * heads, 1, dim]);
}

/** [1, T, Hq, D] → [Hk, T, Hq / Hk, D]. */
function headsApart(q: Tensor, kvHeads: number): Tensor {
  const [, count, heads, dim] = q.shape;
  const group = heads / kvHeads;
  if (count === 1) return reshape(q, [kvHeads, 1, group, dim]);
  return permute(reshape(q, [count, kvHeads, group, dim]), [1, 0, 2, 3]);
}

/** [Hk, T, Hq / Hk, D] → [1, T, Hq, D]. */
function headsTogether(o: Tensor): Tensor {
  const [kvHeads, count, group, dim] = o.shape;
  const rows = count === 1 ? o : permute(o, [1, 0, 2, 3]);
  return reshape(rows, [1, count, kvHeads * group, dim]);
}
