import {
  binary,
  cast,
  concat,
  div,
  fromArray,
  gatherRows,
  keep,
  matmul,
  mul,
  narrow,
  reduce,
  reshape,
  scope,
  slice,
  unary,
  type Tensor,
} from '@filigree/core-tensor';
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
  /** f32 [Hq, D, hidden] of a layer, where scores count by what they do to its output. */
  readonly outputWeight?: ((layer: number) => Tensor) | undefined;
}

/**
 * The largest probability that any query of a pass gives entries of a span, over the heads of a group: softmax over the first entries, the span and what the
 * pass itself has written. With an output weight, times |W_o · v| of the entry, over the length of the normed hidden state that the query was made of.
 * 2 · queries · (span + pass) · D operations per query head.
 */
export class RepeatScores {
  readonly #largest = new Map<number, Tensor>();
  /** f32 [Hq, 1, span] of layers: |W_o · v|. */
  readonly #lengths = new Map<number, Tensor>();

  constructor(
    private readonly config: ModelConfig,
    private readonly cache: KvCache,
    private readonly span: RepeatedSpan,
  ) {}

  /** Takes the queries of a step of `count` tokens, which the cache has room for; within the scope of the step. */
  step(count: number): (layer: number, q: Tensor, normed: Tensor) => void {
    const { start, end, sinks, length, layers, outputWeight } = this.span;
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
    return (layer, q, normed) => {
      if (!layers.includes(layer)) return;
      scope(() => {
        const keys = this.#rowsOf(this.cache.pool.keys[layer], rows, seen.length);
        for (const { from, size, mask } of pieces) {
          const chances = this.#probabilities(q, keys, { from, size, mask, first, count: end - start });
          const scores = outputWeight ? this.#weighted(layer, chances, narrow(normed, from, size), outputWeight) : chances;
          this.#take(layer, this.#largestOf(scores));
        }
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
    for (const tensors of [this.#largest, this.#lengths]) {
      for (const tensor of tensors.values()) tensor.dispose();
      tensors.clear();
    }
  }

  #take(layer: number, scores: Tensor): void {
    const before = this.#largest.get(layer);
    this.#largest.set(layer, keep(before ? binary(before, scores, 'max') : scores));
    before?.dispose();
  }

  /** Of queries [1, T, Hq, D], probabilities of the span: [Hq, size, span]. */
  #probabilities(
    q: Tensor,
    keys: Tensor,
    { from, size, mask, first, count }: { from: number; size: number; mask: Tensor; first: number; count: number },
  ): Tensor {
    const { heads, headDim, attentionScale: scale, attentionSoftcap } = this.config;
    const queries = reshape(slice(q, [0, from, 0, 0], [1, size, heads, headDim]), [size, heads, headDim]);
    const chances = probabilities(queries, keys, { mask, scale, softcap: attentionSoftcap });
    return slice(chances, [0, 0, first], [heads, size, count]);
  }

  /** [Hq, size, span] → [Hk, span]. */
  #largestOf(scores: Tensor): Tensor {
    const { heads, kvHeads } = this.config;
    const [, size, count] = scores.shape;
    return reduce(reshape(scores, [kvHeads, (heads / kvHeads) * size, count]), 'max', { axis: 1 });
  }

  /** f32 [Hk, seen, D] of the pages of a layer. */
  #rowsOf(pages: Tensor, rows: Tensor, seen: number): Tensor {
    const { kvHeads, headDim } = this.config;
    const found = gatherRows(reshape(pages, [-1, headDim]), rows);
    return reshape(found.dtype === 'f32' ? found : cast(found, 'f32'), [kvHeads, seen, headDim]);
  }

  /** Probabilities [Hq, size, span] as they weigh in the output of the layer, of queries made of `hidden` [size, hidden]. */
  #weighted(layer: number, chances: Tensor, hidden: Tensor, outputWeight: (layer: number) => Tensor): Tensor {
    let lengths = this.#lengths.get(layer);
    if (!lengths) {
      lengths = keep(this.#valueLengths(layer, outputWeight(layer)));
      this.#lengths.set(layer, lengths);
    }
    const own = unary(reduce(unary(hidden, 'square'), 'sum', { axis: 1 }), 'sqrt');
    return div(mul(chances, lengths), reshape(own, [1, hidden.shape[0], 1]));
  }

  /** |W_o · v| of the span, f32 [Hq, 1, span]. */
  #valueLengths(layer: number, weight: Tensor): Tensor {
    const { start, end } = this.span;
    const { heads, kvHeads, headDim } = this.config;
    const span = Array.from({ length: end - start }, (_, entry) => start + entry);
    const rows = fromArray(this.cache.backend, this.#rows(span), [kvHeads * span.length], 'i32');
    const values = this.#rowsOf(this.cache.pool.values[layer], rows, span.length);
    const lengths = Array.from({ length: heads }, (_, head) =>
      scope(() => {
        const own = reshape(narrow(values, Math.floor(head / (heads / kvHeads)), 1), [span.length, headDim]);
        const added = matmul(own, reshape(narrow(weight, head, 1), [headDim, weight.shape[2]]));
        return reshape(unary(reduce(unary(added, 'square'), 'sum', { axis: 1 }), 'sqrt'), [1, 1, span.length]);
      }),
    );
    return concat(lengths, 0);
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
