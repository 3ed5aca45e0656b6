import { concat, empty, keep, slice, unscoped, type Backend, type Tensor } from '@filigree/core-tensor';
import type { ModelConfig } from '../config/model-config.js';

/** Collects the last `wanted` queries of a layer from the steps of a prompt. */
export class NewestQueries {
  readonly #parts: Tensor[] = [];
  #rows = 0;

  constructor(private readonly wanted: number) {}

  /** A step's queries [1, T, Hq, D]. */
  add(q: Tensor): void {
    if (this.wanted === 0) return;
    const count = Math.min(this.wanted, q.shape[1]);
    this.#parts.push(keep(lastRows(q, count)));
    this.#rows += count;
    while (this.#rows - this.#parts[0].shape[1] >= this.wanted) {
      this.#rows -= this.#parts[0].shape[1];
      this.#parts.shift()?.dispose();
    }
  }

  /** [1, wanted or all there are, Hq, D]; the caller disposes it. */
  joined(backend: Backend, heads: number, dim: number): Tensor {
    return unscoped(() => {
      if (this.#parts.length === 0) return empty(backend, [1, 0, heads, dim], 'f32');
      const whole = concat(this.#parts, 1);
      if (this.#rows <= this.wanted) return whole;
      const last = lastRows(whole, this.wanted);
      whole.dispose();
      return last;
    });
  }

  dispose(): void {
    for (const part of this.#parts.splice(0)) part.dispose();
    this.#rows = 0;
  }
}

function lastRows(q: Tensor, count: number): Tensor {
  const [, rows, heads, dim] = q.shape;
  return slice(q, [0, rows - count, 0, 0], [1, count, heads, dim]);
}

/** The newest queries of every layer of a model. */
export class LayerQueries {
  readonly #layers: readonly NewestQueries[];

  constructor(
    private readonly model: { readonly backend: Backend; readonly config: ModelConfig },
    wanted: number,
  ) {
    this.#layers = Array.from({ length: model.config.layers }, () => new NewestQueries(wanted));
  }

  /** Takes what steps show. */
  readonly collect = (layer: number, q: Tensor): void => {
    this.#layers[layer].add(q);
  };

  /** [1, n, Hq, D]; the caller disposes it. */
  of(layer: number): Tensor {
    const { heads, headDim } = this.model.config;
    return this.#layers[layer].joined(this.model.backend, heads, headDim);
  }

  dispose(): void {
    for (const layer of this.#layers) layer.dispose();
  }
}
