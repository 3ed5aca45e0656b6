import {
  fromArray,
  binary,
  add,
  narrow,
  reshape,
  rmsNorm,
  rope,
  ropeFrequencies,
  scope,
  softcap,
  type Backend,
  type Linear,
  type Tensor,
} from '@filigree/core-tensor';
import { dequantizeRowsOp, gatedLinear, ggufLayout, projectQkv } from '@filigree/quantization';
import type { Precision } from '@filigree/sparse-attention';
import type { LayerQueries, StepAttention } from '../attention/step-attention.js';
import type { ModelConfig, RopeConfig } from '../config/model-config.js';
import type { LayerKv, StepKv } from '../kv/sequence-kv.js';
import { disposeDecoderWeights, type DecoderWeights } from './decoder-weights.js';
import type { Hooks } from './hooks.js';

/** Which rows of the step get logits. */
export type LogitRows = 'none' | 'last' | 'all';

export interface LayerOptions {
  /** Where the step writes and reads keys and values. */
  readonly kv: StepKv;
  /** What layers attend with; undefined: dense. */
  readonly attention?: StepAttention | undefined;
  readonly hooks?: Hooks | undefined;
  /** Is shown the queries of a layer, [1, T, Hq, D], rotated, and the normed hidden states [T, hidden] that they were made of. */
  readonly onQueries?: ((layer: number, q: Tensor, normed: Tensor) => void) | undefined;
}

export interface StepOptions extends LayerOptions {
  readonly logits: LogitRows;
}

/** A layer that waits for what its attention gives. */
interface Asked {
  /** [T, hidden]: what the layer reads. */
  readonly x: Tensor;
  /** [1, T, Hq, D], rotated. */
  readonly queries: Tensor;
  readonly cache: LayerKv;
  /** The same for attention by a method; undefined where heads keep different entries. */
  readonly seen: LayerQueries | undefined;
}

interface Rotation {
  readonly inverseFrequencies: Tensor;
  readonly scale: number;
  readonly pairing: RopeConfig['pairing'];
}

/** The arithmetic of a decoder: T tokens through all layers, keys and values appended to a cache. */
export class Decoder {
  readonly #global: Rotation;
  readonly #local: Rotation;
  readonly #embeddingScale: Tensor | undefined;

  constructor(
    readonly backend: Backend,
    readonly config: ModelConfig,
    readonly weights: DecoderWeights,
    readonly attentionPrecision: Precision = 'f32',
  ) {
    const rotation = (rope: RopeConfig): Rotation => {
      const { inverseFrequencies, scale } = ropeFrequencies(rope);
      const tensor = fromArray(backend, inverseFrequencies, [inverseFrequencies.length]);
      return { inverseFrequencies: tensor, scale, pairing: rope.pairing };
    };
    this.#global = rotation(config.rope);
    this.#local = config.localRope === config.rope ? this.#global : rotation(config.localRope);
    this.#embeddingScale = config.embeddingScale === 1 ? undefined : fromArray(backend, [config.embeddingScale], [1]);
  }

  /**
   * Queues one step: ids i32 [T] on the device, at the places of `at`. Depends on nothing but its arguments' shapes and contents. Returns logits
   * [T or 1, vocabulary], or undefined for `none`. The caller disposes them.
   */
  step(tokens: Tensor, options: StepOptions & { readonly logits: 'last' | 'all' }): Tensor;
  step(tokens: Tensor, options: StepOptions): Tensor | undefined;
  step(tokens: Tensor, options: StepOptions): Tensor | undefined {
    return scope(() => {
      const { hooks, logits } = options;
      let x = this.embed(tokens);
      if (hooks) x = hooks.at('embedding', x);
      for (let index = 0; index < this.config.layers; index++) {
        const input = x;
        x = scope(() => this.layer(index, input, options));
        input.dispose();
      }
      if (logits === 'none') return undefined;
      return this.logits(logits === 'last' ? narrow(x, tokens.shape[0] - 1, 1) : x, hooks);
    });
  }

  /** Queries or keys [n, heads, headDim] of a layer, turned by distances i32 [n]. */
  rotate(layer: number, x: Tensor, by: Tensor): Tensor {
    const { inverseFrequencies, pairing } = this.#rotationOf(layer);
    return rope(x, by, inverseFrequencies, { pairing });
  }

  /** f32 [Hq, headDim, hidden]: what channels of a query head's values add to the residual stream of a layer. */
  outputWeight(layer: number): Tensor {
    return scope(() => {
      const { heads, headDim, hiddenSize } = this.config;
      const size = heads * headDim;
      const unit = Float32Array.from({ length: size * size }, (_, index) => (index % (size + 1) === 0 ? 1 : 0));
      const rows = this.weights.layers[layer].attentionOutput.forward(fromArray(this.backend, unit, [size, size]));
      return reshape(rows, [heads, headDim, hiddenSize]);
    });
  }

  dispose(): void {
    disposeDecoderWeights(this.weights);
    for (const { inverseFrequencies } of [this.#global, this.#local]) inverseFrequencies.dispose();
    this.#embeddingScale?.dispose();
  }

  /** Rows of the embedding: ids i32 [T] → [T, hidden]. */
  embed(tokens: Tensor): Tensor {
    const { blocks, type } = this.weights.embedding;
    const { hiddenSize } = this.config;
    const rows = dequantizeRowsOp({ blocks, ids: tokens }, { type: ggufLayout(type).id, inFeatures: hiddenSize }).y;
    return this.#embeddingScale ? binary(rows, this.#embeddingScale, 'mul') : rows;
  }

  /** One layer of a step: x [T, hidden] → [T, hidden]. */
  layer(index: number, input: Tensor, options: LayerOptions): Tensor {
    const asked = this.#ask(index, input, options);
    return this.#answer(index, asked, asked.seen && options.attention?.attend(index, asked.seen), options);
  }

  /**
   * As `step` for logits of the last token, where layers wait for the host to select keys. Outside of scopes; `between` is called before every layer and may
   * throw.
   */
  async stepAwaiting(
    tokens: Tensor,
    options: { readonly kv: StepKv; readonly attention: StepAttention },
    between: () => void,
  ): Promise<Tensor> {
    let x = scope(() => this.embed(tokens));
    try {
      for (let index = 0; index < this.config.layers; index++) {
        between();
        const input = x;
        const asked = scope(() => this.#ask(index, input, options));
        let o: Tensor | undefined;
        try {
          o = asked.seen && (await options.attention.attendAwaiting(index, asked.seen));
          x = scope(() => this.#answer(index, asked, o, options));
          input.dispose();
        } finally {
          for (const tensor of [asked.queries, asked.seen?.keys, o]) tensor?.dispose();
        }
      }
      return scope(() => this.logits(narrow(x, tokens.shape[0] - 1, 1)));
    } finally {
      x.dispose();
    }
  }

  /** The second half of a layer, from what its attention gave; without that it is dense. */
  #answer(index: number, { x, queries, cache }: Asked, sparse: Tensor | undefined, options: LayerOptions): Tensor {
    const layer = this.weights.layers[index];
    const { heads, headDim, windows, attentionScale: scale, attentionSoftcap } = this.config;
    const at = (hook: string, tensor: Tensor): Tensor => options.hooks?.at(`layers.${index}.${hook}`, tensor) ?? tensor;
    const precision = this.attentionPrecision;
    const o = sparse ?? cache.attend(queries, { scale, softcap: attentionSoftcap, precision, window: windows[index] });
    const mixed = reshape(o, [x.shape[0], heads * headDim]);
    const mid = this.#branch(layer.attentionOutput, layer.postAttentionNorm, at('attention.mixed', mixed), x, {
      hook: `layers.${index}.attention.output`,
      hooks: options.hooks,
    });
    const middle = at('residual-mid', mid);
    const normed = this.#norm(middle, layer.feedForwardNorm);
    const hidden = gatedLinear(normed, layer, this.config.activation);
    const out = this.#branch(layer.down, layer.postFeedForwardNorm, at('mlp.hidden', hidden), middle, {
      hook: `layers.${index}.mlp.output`,
      hooks: options.hooks,
    });
    return at('residual-out', out);
  }

  /** residual + norm(linear(x)); in one pass where nothing comes between. */
  #branch(
    linear: Linear,
    norm: Tensor | undefined,
    x: Tensor,
    residual: Tensor,
    { hook, hooks }: { hook: string; hooks: Hooks | undefined },
  ): Tensor {
    if (!norm && hooks?.uses(hook) !== true) return linear.forward(x, residual);
    const plain = linear.forward(x);
    const branch = norm ? this.#norm(plain, norm) : plain;
    return add(residual, hooks?.at(hook, branch) ?? branch);
  }

  /** The first half of a layer: queries, and the new keys and values in the cache. */
  #ask(index: number, input: Tensor, options: LayerOptions): Asked {
    const layer = this.weights.layers[index];
    const { kv, hooks, onQueries } = options;
    const { heads, kvHeads, headDim } = this.config;
    const at = (hook: string, tensor: Tensor): Tensor => hooks?.at(`layers.${index}.${hook}`, tensor) ?? tensor;
    const x = at('residual-in', input);
    const count = x.shape[0];
    const rotation = this.#rotationOf(index);
    const normed = this.#norm(x, layer.attentionNorm);
    const projected = projectQkv(normed, layer);
    const { inverseFrequencies, pairing, scale: factor } = rotation;
    const rotated = (rows: Tensor, norm: Tensor | undefined, headCount: number): Tensor => {
      const split = reshape(rows, [count, headCount, headDim]);
      return rope(norm ? this.#norm(split, norm) : split, kv.positions, inverseFrequencies, { pairing, scale: factor });
    };
    const q = at('attention.query', rotated(projected.q, layer.queryNorm, heads));
    const k = at('attention.key', rotated(projected.k, layer.keyNorm, kvHeads));
    const v = at('attention.value', reshape(projected.v, [count, kvHeads, headDim]));
    const cache = kv.layer(index);
    cache.append(k, v);
    const precision = this.attentionPrecision;
    const queries = reshape(q, [1, count, heads, headDim]);
    onQueries?.(index, queries, normed);
    const rotate = (x: Tensor, by: Tensor): Tensor =>
      reshape(this.rotate(index, reshape(x, [by.size, -1, headDim]), by), x.shape);
    const seen = cache.paged && { ...cache.paged, q: queries, keys: k, rotate, precision };
    return { x, queries, cache, seen };
  }

  #rotationOf(layer: number): Rotation {
    return this.config.windows[layer] > 0 ? this.#local : this.#global;
  }

  /** Logits of hidden states [T, hidden]: [T, vocabulary]. */
  logits(x: Tensor, hooks?: Hooks): Tensor {
    const normed = this.#norm(x, this.weights.outputNorm);
    const logits = this.weights.output.forward(hooks?.at('final-norm', normed) ?? normed);
    const capped = this.config.logitSoftcap > 0 ? softcap(logits, this.config.logitSoftcap) : logits;
    return hooks?.at('logits', capped) ?? capped;
  }

  #norm(x: Tensor, weight: Tensor): Tensor {
    const { normEps, normWeightOffset } = this.config;
    return rmsNorm(x, weight, { eps: normEps, weightOffset: normWeightOffset });
  }
}
