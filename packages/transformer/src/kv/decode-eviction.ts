import { concat, narrow, reshape, scope, slice, unscoped, empty, type Tensor } from '@filigree/core-tensor';
import type { Compressor, StreamCache } from '@filigree/kv-cache';
import type { Decoder } from '../model/decoder.js';

/** Cuts the heads of a sequence back to what they kept of the prompt, whenever so many tokens have come since. */
export class DecodeEviction {
  /** Queries [layers, Hq, D] of the newest steps. */
  readonly #recent: Tensor[] = [];
  /** Entries every head had when the prompt was cut down: [layers][Hk]. */
  readonly #targets: readonly (readonly number[])[];
  #since: number;

  /** @param cache holds what is left of the prompt. */
  constructor(
    private readonly decoder: Decoder,
    private readonly cache: StreamCache,
    readonly compressor: Compressor,
    private readonly every: number,
    from?: DecodeEviction,
  ) {
    const { layers, kvHeads } = cache;
    this.#since = from ? from.#since : cache.positionsEnd;
    const heads = Array.from({ length: kvHeads }, (_, head) => head);
    this.#targets = from
      ? from.#targets
      : Array.from({ length: layers }, (_, layer) => heads.map((head) => cache.length(layer, head)));
  }

  /** Steps whose queries the compressor looks at. */
  get wanted(): number {
    const { accumulates, queries } = this.compressor;
    if (accumulates) return this.every;
    return queries === 'all' ? 0 : queries;
  }

  /** The same for a fork of the cache. */
  fork(cache: StreamCache): DecodeEviction {
    return new DecodeEviction(this.decoder, cache, this.compressor, this.every, this);
  }

  /** Takes the queries [layers, Hq, D] of a step. */
  observe(queries: Tensor): void {
    this.#recent.push(queries);
    while (this.#recent.length > this.wanted) this.#recent.shift()?.dispose();
  }

  /** Cuts back, if it is time. */
  async run(): Promise<void> {
    const { cache, every, decoder } = this;
    if (cache.positionsEnd - this.#since < every) return;
    this.#since = cache.positionsEnd;
    for (const [layer, window] of decoder.config.windows.entries()) {
      if (window > 0) continue;
      const targets = this.#targets[layer];
      const heads = targets.map((_, head) => head);
      const alike = heads.every((head) => targets[head] === targets[0] && cache.length(layer, head) === cache.length(layer, 0));
      for (const some of alike ? [heads] : heads.map((head) => [head])) await this.#cut(layer, some, targets[some[0]]);
    }
  }

  dispose(): void {
    for (const queries of this.#recent.splice(0)) queries.dispose();
  }

  async #cut(layer: number, some: readonly number[], entries: number): Promise<void> {
    const { cache, compressor, decoder } = this;
    const { config, backend } = decoder;
    const length = cache.length(layer, some[0]);
    if (length <= entries) return;
    const group = config.heads / config.kvHeads;
    const { k, v } = unscoped(() => cache.entries(layer, some));
    const q = unscoped(() => scope(() => this.#queries(layer, some[0] * group, some.length * group)));
    const received = compressor.accumulates ? some.map((head) => cache.received(layer, head)) : undefined;
    try {
      const kept = await compressor.compress({
        ...{ backend, layer, layers: config.layers, heads: some.length * group, kvHeads: some.length, length, entries },
        ...{ k, v, q, received, scale: config.attentionScale, softcap: config.attentionSoftcap },
        rotate: (x, by) => decoder.rotate(layer, x, by),
      });
      for (const [index, head] of some.entries()) {
        cache.keep(layer, head, kept[index]);
        const sums = received?.[index];
        if (sums)
          cache.setReceived(
            layer,
            head,
            Array.from(kept[index], (id) => sums[id]),
          );
      }
    } finally {
      for (const tensor of [k, v, q]) tensor.dispose();
    }
  }

  /** Newest queries of some query heads, [1, n, heads, D]. */
  #queries(layer: number, first: number, heads: number): Tensor {
    const { backend, config } = this.decoder;
    if (this.#recent.length === 0) return empty(backend, [1, 0, heads, config.headDim], 'f32');
    const steps = concat(
      this.#recent.map((queries) => narrow(queries, layer, 1)),
      0,
    );
    const some = slice(steps, [0, first, 0], [steps.shape[0], heads, config.headDim]);
    return reshape(some, [1, ...some.shape]);
  }
}
