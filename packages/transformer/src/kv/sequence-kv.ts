import { narrow, reshape, type Tensor } from '@filigree/core-tensor';
import { appendOp, type KvCache, type KvStep } from '@filigree/kv-cache';
import { attention, type AttentionOptions } from '@filigree/sparse-attention';

/** What a layer does with the keys and values of a step. */
export interface LayerKv {
  /** Writes the step's keys and values [T, Hk, D]. */
  append(k: Tensor, v: Tensor): void;
  /** Attention of queries [1, T, Hq, D] to all entries there are: the same shape, with the values' channels. */
  attend(q: Tensor, options: Pick<AttentionOptions, 'scale' | 'softcap' | 'window' | 'precision'>): Tensor;
  /** Pages as selectors and plans read them; undefined where heads keep different entries. */
  readonly paged?: { readonly k: Tensor; readonly v: Tensor; readonly place: KvStep } | undefined;
}

/** Where the layers of one step write and read. */
export interface StepKv {
  /** i32 [T]. */
  readonly positions: Tensor;
  layer(index: number): LayerKv;
  /** Releases what the step made outside of a scope. */
  dispose?(): void;
}

/** The cache of a sequence as its steps use it. */
export interface SequenceKv {
  /** Position of the next token. */
  readonly end: number;
  /** Says when steps of one length have other shapes than before, so that they cannot be replayed. Asked after {@link reserve}. */
  readonly shapes: string;
  /** Makes room for `count` tokens: all that differs from step to step. */
  reserve(count: number): readonly Tensor[];
  /** The step that works on what {@link reserve} returned, or on tensors of the same shapes. */
  step(reserved: readonly Tensor[]): StepKv;
  /** Cells that one head of a layer sees in the step that was reserved last, on average; undefined: all causal ones. */
  visible(layer: number, count: number): number | undefined;
}

/** All entries, the same for every head. */
export class DenseKv implements SequenceKv {
  readonly shapes = '';

  constructor(private readonly cache: KvCache) {}

  get end(): number {
    return this.cache.length();
  }

  reserve(count: number): readonly Tensor[] {
    const { positions, slots, spans, table } = this.cache.reserve(count);
    return [positions, slots, spans, table];
  }

  step([positions, slots, spans, table]: readonly Tensor[]): StepKv & { readonly place: KvStep } {
    const place = { positions, slots, spans, table, lengths: narrow(reshape(spans, [2]), 1, 1) };
    const { pool } = this.cache;
    return {
      positions,
      place,
      dispose() {
        place.lengths.dispose();
      },
      layer: (index) => {
        const [k, v] = [pool.keys[index], pool.values[index]];
        return {
          paged: { k, v, place },
          append: (newK, newV) => {
            appendOp({ keyPages: k, valuePages: v, k: newK, v: newV, slots }, {});
          },
          attend: (q, options) => {
            const { lengths } = place;
            return attention(q, k, v, { ...options, table, lengths, queryLayout: 'blhd' }).o;
          },
        };
      },
    };
  }

  visible(): undefined {
    return undefined;
  }
}
