import { empty, fromArray, gatherRows, unscoped, type Tensor } from '@filigree/core-tensor';
import { appendOp, type RawKvType } from '@filigree/kv-cache';
import { attention } from '@filigree/sparse-attention';
import type { Decoder } from '../model/decoder.js';
import type { StepKv } from './sequence-kv.js';

/** What a prompt that is read layer by layer has between two layers, and room for the entries of one. */
export class PromptRows {
  /** [rows, hidden]: what a layer reads, and what it leaves. */
  hidden: Tensor;
  /** Entries of one layer, [1, Hk, rows, D]. */
  k: Tensor;
  v: Tensor;
  /** Where the rows stand in the prompt, ascending. */
  positions: Int32Array;
  /** What layers found of the rows, for a compressor that adds it up. */
  importance: Float64Array;

  constructor(
    private readonly decoder: Decoder,
    private readonly dtype: RawKvType,
    length: number,
  ) {
    this.positions = Int32Array.from({ length }, (_, index) => index);
    this.importance = new Float64Array(length);
    this.hidden = unscoped(() => empty(decoder.backend, [length, decoder.config.hiddenSize], 'f32'));
    this.k = this.#entries();
    this.v = this.#entries();
  }

  get length(): number {
    return this.positions.length;
  }

  /** A step of a layer over rows from `start` on, each of which sees those before it. */
  step(start: number, count: number): StepKv {
    const { k, v } = this;
    const { backend } = this.decoder;
    const positions = fromArray(backend, this.positions.subarray(start, start + count), [count], 'i32');
    const places = Int32Array.from({ length: count }, (_, index) => start + index);
    const slots = fromArray(backend, places, [count], 'i32');
    return {
      positions,
      layer: () => ({
        append: (newK, newV) => {
          appendOp({ keyPages: k, valuePages: v, k: newK, v: newV, slots }, {});
        },
        attend: (q, options) => attention(q, k, v, { ...options, lengthK: start + count, queryLayout: 'blhd' }).o,
      }),
    };
  }

  /** Leaves these rows, ascending, and forgets the entries of the layer. */
  keep(ids: Uint32Array): void {
    if (ids.length === this.length) return;
    const { backend } = this.decoder;
    const { hidden } = this;
    this.hidden = unscoped(() => {
      const list = fromArray(backend, Int32Array.from(ids), [ids.length], 'i32');
      const rows = gatherRows(hidden, list);
      list.dispose();
      return rows;
    });
    hidden.dispose();
    this.positions = Int32Array.from(ids, (id) => this.positions[id]);
    this.importance = Float64Array.from(ids, (id) => this.importance[id]);
    for (const tensor of [this.k, this.v]) tensor.dispose();
    this.k = this.#entries();
    this.v = this.#entries();
  }

  dispose(): void {
    for (const tensor of [this.hidden, this.k, this.v]) tensor.dispose();
  }

  #entries(): Tensor {
    const { backend, config } = this.decoder;
    return unscoped(() => empty(backend, [1, config.kvHeads, this.length, config.headDim], this.dtype));
  }
}
