import { keep, type Linear, type Tensor } from '@filigree/core-tensor';
import { QuantizedLinear, type ActivationMode } from '@filigree/quantization';
import { ModelFormatError } from '../errors.js';
import type { ModelConfig } from '../config/model-config.js';
import type { LoadedMatrix, WeightLoader } from '../weights/weight-loader.js';

/** A matrix whose rows are looked up by id. */
export interface EmbeddingTable {
  /** u8 [vocabulary, rowBytes]. */
  readonly blocks: Tensor;
  readonly type: string;
}

/** One decoder layer. Norms are vectors [hidden] or [headDim]. */
export interface LayerWeights {
  readonly attentionNorm: Tensor;
  readonly query: Linear;
  readonly key: Linear;
  readonly value: Linear;
  readonly queryNorm: Tensor | undefined;
  readonly keyNorm: Tensor | undefined;
  readonly attentionOutput: Linear;
  /** Norm of what attention adds to the residual stream (Gemma). */
  readonly postAttentionNorm: Tensor | undefined;
  readonly feedForwardNorm: Tensor;
  readonly gate: Linear;
  readonly up: Linear;
  readonly down: Linear;
  readonly postFeedForwardNorm: Tensor | undefined;
}

export interface DecoderWeights {
  readonly embedding: EmbeddingTable;
  readonly layers: readonly LayerWeights[];
  readonly outputNorm: Tensor;
  readonly output: Linear;
  /** Every linear layer under the name of its tensor, in the order in which they run. */
  readonly linears: ReadonlyMap<string, QuantizedLinear>;
  /** Everything that is neither a linear layer nor the embedding. */
  readonly vectors: readonly Tensor[];
}

/** Loads every weight of a decoder; on failure gives back what it had loaded. */
export async function loadDecoderWeights(
  loader: WeightLoader,
  config: ModelConfig,
  activations: ActivationMode | undefined,
): Promise<DecoderWeights> {
  const linears = new Map<string, QuantizedLinear>();
  const vectors: Tensor[] = [];
  let embedding: LoadedMatrix | undefined;

  const vector = async (name: string, length: number): Promise<Tensor> => {
    const tensor = keep(await loader.vector(name, length));
    vectors.push(tensor);
    return tensor;
  };
  const optionalVector = async (name: string, length: number): Promise<Tensor | undefined> =>
    loader.has(name) ? vector(name, length) : undefined;
  const makeLinear = async (
    name: string,
    { blocks, type, inputOrder, scale: converted }: LoadedMatrix,
    [outFeatures, inFeatures]: readonly [number, number],
  ): Promise<QuantizedLinear> => {
    const bias = loader.has(`${name}.bias`) ? await loader.vector(`${name}.bias`, outFeatures) : undefined;
    // NVFP4 brings one factor per tensor, under either name.
    const factor = [`${name}.scale`, `${name}.weight.scale`].find((candidate) => loader.has(candidate));
    const scale = factor === undefined ? converted : await loader.vector(factor, 1);
    const linear = new QuantizedLinear(blocks, {
      type,
      inFeatures,
      outFeatures,
      bias,
      scale,
      inputOrder,
      activations,
      onRepacked: (mapped) => loader.backend.discardPages?.(mapped),
    });
    linears.set(`${name}.weight`, linear);
    linear.prepare();
    await loader.backend.ready();
    return linear;
  };
  const linear = async (name: string, outFeatures: number, inFeatures: number): Promise<Linear> =>
    makeLinear(name, await loader.matrix(`${name}.weight`, outFeatures, inFeatures), [outFeatures, inFeatures]);

  const loadLayer = async (index: number): Promise<LayerWeights> => {
    const { hiddenSize, heads, kvHeads, headDim, feedForwardSize } = config;
    const block = `blk.${index}`;
    return {
      attentionNorm: await vector(`${block}.attn_norm.weight`, hiddenSize),
      query: await linear(`${block}.attn_q`, heads * headDim, hiddenSize),
      key: await linear(`${block}.attn_k`, kvHeads * headDim, hiddenSize),
      value: await linear(`${block}.attn_v`, kvHeads * headDim, hiddenSize),
      queryNorm: await optionalVector(`${block}.attn_q_norm.weight`, headDim),
      keyNorm: await optionalVector(`${block}.attn_k_norm.weight`, headDim),
      attentionOutput: await linear(`${block}.attn_output`, hiddenSize, heads * headDim),
      postAttentionNorm: await optionalVector(`${block}.post_attention_norm.weight`, hiddenSize),
      feedForwardNorm: await vector(`${block}.ffn_norm.weight`, hiddenSize),
      gate: await linear(`${block}.ffn_gate`, feedForwardSize, hiddenSize),
      up: await linear(`${block}.ffn_up`, feedForwardSize, hiddenSize),
      down: await linear(`${block}.ffn_down`, hiddenSize, feedForwardSize),
      postFeedForwardNorm: await optionalVector(`${block}.post_ffw_norm.weight`, hiddenSize),
    };
  };

  try {
    const { vocabularySize, hiddenSize } = config;
    embedding = await loader.matrix('token_embd.weight', vocabularySize, hiddenSize);
    // Lookups decode rows as they are.
    if (embedding.inputOrder ?? embedding.scale)
      throw new ModelFormatError(
        `${loader.source.name}: the token embeddings have ${embedding.scale ? 'a factor' : 'an input order'} of their own, which lookups cannot apply; take a checkpoint with plain embeddings`,
      );
    const layers: LayerWeights[] = [];
    for (let index = 0; index < config.layers; index++) layers.push(await loadLayer(index));
    const outputNorm = await vector('output_norm.weight', hiddenSize);
    // Tied: the table of embeddings is the output matrix too; the blocks are shared until one of them is repacked.
    const output = loader.has('output.weight')
      ? await linear('output', vocabularySize, hiddenSize)
      : await makeLinear('token_embd', { type: embedding.type, blocks: embedding.blocks.view(embedding.blocks.shape) }, [
          vocabularySize,
          hiddenSize,
        ]);
    return { embedding, layers, outputNorm, output, linears, vectors };
  } catch (error) {
    for (const loaded of [...linears.values(), ...vectors]) loaded.dispose();
    for (const part of [embedding?.blocks, embedding?.inputOrder, embedding?.scale]) part?.dispose();
    throw error;
  }
}

/** Gives every weight back. */
export function disposeDecoderWeights({ embedding, linears, vectors }: DecoderWeights): void {
  for (const loaded of [...linears.values(), ...vectors]) loaded.dispose();
  embedding.blocks.dispose();
}
