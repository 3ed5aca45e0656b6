import { binary, cast, fromArray, gatherRows, keep, reduce, reshape, scope, slice, type Tensor } from '@filigree/core-tensor';
import { probabilities, type KvCache } from '@filigree/kv-cache';
import type { ModelConfig } from '../config/model-config.js';

/** Queries whose probabilities are there at a time. */
const queryRows = 128;

interface RepeatedSpan {
  /** Entries of the prompt that are scored. */
  readonly start: number;
  readonly end: number;
  /** First entries of the prompt that queries see too. */
  readonly sinks: number;
  /** Entries of the prompt; what is behind them repeats it. */
  readonly length: number;
  /** Layers that are scored. */
  readonly layers: readonly number[];
}

/**
 * The largest probability that any query of a pass gives entries of a span, over the heads of a group: softmax over the first entries, the span and what the
 * pass itself has written. 2 · queries · (span + pass) · D operations per query head.
 */
export class RepeatScores {
  readonly #largest = new Map<number, Tensor>();

  constructor(
    private readonly config: ModelConfig,
    private readonly cache: KvCache,
    private readonly span: RepeatedSpan,
  ) {}

  /** Takes the queries of a step of `count` tokens, which the cache has room for; within the scope of the step. */
  step(count: number): (layer: number, q: Tensor) => void {
    const { start, end, sinks, length, layers } = this.span;
    const { backend } = this.cache;
    const first = Math.min(sinks, start);
    const before = this.cache.length() - count;
    const seen = [
      ...Array.from({ length: first }, (_, entry) => entry),
      ...Array.from({ length: end - start }, (_, entry) => start + entry),
      ...Array.from({ length: before + count - length }, (_, entry) => length + entry),
    ];
    const rows = fromArray(backend, this.#rows(seen), [this.config.kvHeads * seen.length], 'i32');
    const pieces = Array.from({ length: Math.ceil(count / queryRows) }, (_, piece) => {
      const from = piece * queryRows;
      const size = Math.min(queryRows, count - from);
      // Entries of this step that come after a query are hidden from it.
      const hidden = Float32Array.from({ length: size * seen.length }, (_cell, index) => {
        const entry = (index % seen.length) - (seen.length - count);
        return entry > from + Math.floor(index / seen.length) ? -Infinity : 0;
      });
      return { from, size, mask: fromArray(backend, hidden, [size, seen.length]) };
    });
    return (layer, q) => {
      if (!layers.includes(layer)) return;
      scope(() => {
        const keys = this.#keys(layer, rows, seen.length);
        for (const { from, size, mask } of pieces)
          this.#take(layer, this.#probabilities(q, keys, { from, size, mask, first, count: end - start }));
      });
    };
  }

  /** Scores of a layer per key-value head, once all steps are done. */
  async rows(layer: number): Promise<Float32Array[]> {
    const { start, end } = this.span;
    const numbers = await this.#largest.get(layer)?.readNumbers();
    return Array.from({ length: this.config.kvHeads }, (_, head) =>
      Float32Array.from({ length: end - start }, (_entry, index) => numbers?.[head * (end - start) + index] ?? NaN),
    );
  }

  dispose(): void {
    for (const tensor of this.#largest.values()) tensor.dispose();
    this.#largest.clear();
  }

  #take(layer: number, scores: Tensor): void {
    const before = this.#largest.get(layer);
    this.#largest.set(layer, keep(before ? binary(before, scores, 'max') : scores));
    before?.dispose();
  }

  /** Of queries [1, T, Hq, D], the largest probabilities of the span: [Hk, span]. */
  #probabilities(
    q: Tensor,
    keys: Tensor,
    { from, size, mask, first, count }: { from: number; size: number; mask: Tensor; first: number; count: number },
  ): Tensor {
    const { heads, kvHeads, headDim, attentionScale: scale, attentionSoftcap } = this.config;
    const queries = reshape(slice(q, [0, from, 0, 0], [1, size, heads, headDim]), [size, heads, headDim]);
    const chances = probabilities(queries, keys, { mask, scale, softcap: attentionSoftcap });
    const span = slice(chances, [0, 0, first], [heads, size, count]);
    return reduce(reshape(span, [kvHeads, (heads / kvHeads) * size, count]), 'max', { axis: 1 });
  }

  /** f32 [Hk, seen, D]. */
  #keys(layer: number, rows: Tensor, seen: number): Tensor {
    const { kvHeads, headDim } = this.config;
    const found = gatherRows(reshape(this.cache.pool.keys[layer], [-1, headDim]), rows);
    return reshape(found.dtype === 'f32' ? found : cast(found, 'f32'), [kvHeads, seen, headDim]);
  }

  /** Rows of a layer's pages that hold entries, head by head. */
  #rows(entries: readonly number[]): Int32Array {
    const { pageSize } = this.cache.pool;
    const { kvHeads } = this.config;
    return Int32Array.from({ length: kvHeads * entries.length }, (_, index) => {
      const [head, entry] = [Math.floor(index / entries.length), entries[index % entries.length]];
      return (this.cache.pages[Math.floor(entry / pageSize)] * kvHeads + head) * pageSize + (entry % pageSize);
    });
  }
}
