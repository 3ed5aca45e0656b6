import type { GgufFile } from '@filigree/checkpoint';
import type { RopeScaling } from '@filigree/core-tensor';
import { ModelFormatError, UnsupportedArchitectureError } from '../errors.js';
import { architectures, checkConfig, type Architecture, type ModelConfig, type RopeConfig } from './model-config.js';

/** `factors`: the tensor `rope_freqs.weight`, where the file has one. */
export function ggufConfig(file: GgufFile, factors: ArrayLike<number> | undefined): ModelConfig {
  const where = file.source.name;
  const stated = file.string('general.architecture');
  if (stated === undefined) throw new ModelFormatError(`${where}: the metadata has no "general.architecture"; is it a model?`);
  const architecture = architectures.find((known) => known === stated);
  if (!architecture)
    throw new UnsupportedArchitectureError(
      `${where}: architecture "${stated}" is not supported; supported are ${architectures.join(', ')}`,
    );
  const optional = (key: string): number | undefined => file.number(`${architecture}.${key}`);
  const number = (key: string): number => {
    const value = optional(key);
    if (value === undefined) throw new ModelFormatError(`${where}: the metadata has no "${architecture}.${key}"`);
    return value;
  };
  const hiddenSize = number('embedding_length');
  const heads = number('attention.head_count');
  const layers = number('block_count');
  const headDim = optional('attention.key_length') ?? hiddenSize / heads;
  const valueDim = optional('attention.value_length') ?? headDim;
  if (valueDim !== headDim)
    throw new UnsupportedArchitectureError(`${where}: keys of ${headDim} and values of ${valueDim} channels are not supported`);
  const gemma = architecture === 'gemma3';
  const rope = ropeOf(architecture, optional, headDim, ropeScaling(file, architecture, factors));
  const window = optional('attention.sliding_window') ?? 0;
  return checkConfig(
    {
      architecture,
      name: file.string('general.name'),
      vocabularySize: file.strings('tokenizer.ggml.tokens')?.length ?? optional('vocab_size') ?? 0,
      hiddenSize,
      layers,
      heads,
      kvHeads: optional('attention.head_count_kv') ?? heads,
      headDim,
      feedForwardSize: number('feed_forward_length'),
      contextLength: number('context_length'),
      normEps: number('attention.layer_norm_rms_epsilon'),
      // Converters add the one that Gemma's own files leave out.
      normWeightOffset: 0,
      activation: gemma ? 'gelu' : 'silu',
      embeddingScale: gemma ? gemmaEmbeddingScale(hiddenSize) : 1,
      attentionScale: gemma ? gemmaAttentionScale(layers, hiddenSize, heads, headDim) : 1 / Math.sqrt(headDim),
      attentionSoftcap: optional('attn_logit_softcapping') ?? 0,
      logitSoftcap: optional('final_logit_softcapping') ?? 0,
      rope,
      localRope: gemma ? { ...rope, base: optional('rope.freq_base_swa') ?? 10000, scaling: undefined } : rope,
      // The sixth layer of every six sees everything.
      windows: windowsOf(layers, (layer) => (gemma && (layer + 1) % 6 !== 0 ? window : 0)),
    },
    where,
  );
}

/** A window per layer; an impossible number of layers is left to `checkConfig`. */
export function windowsOf(layers: number, window: (layer: number) => number): number[] {
  return layers >= 1 && layers <= 4096 ? Array.from({ length: Math.floor(layers) }, (_, layer) => window(layer)) : [];
}

/** √hidden, which the reference implementation multiplies with in f32. */
export function gemmaEmbeddingScale(hiddenSize: number): number {
  return Math.fround(Math.sqrt(hiddenSize));
}

/** The largest Gemma 3 scales by its width per head, the others by the size of a head. */
function gemmaAttentionScale(layers: number, hiddenSize: number, heads: number, headDim: number): number {
  return 1 / Math.sqrt(layers === 62 ? hiddenSize / heads : headDim);
}

function ropeOf(
  architecture: Architecture,
  optional: (key: string) => number | undefined,
  headDim: number,
  scaling: RopeScaling | undefined,
): RopeConfig {
  return {
    base: optional('rope.freq_base') ?? 10000,
    dims: optional('rope.dimension_count') ?? headDim,
    // Converters permute the queries and keys of Llama, so that pairs lie side by side.
    pairing: architecture === 'llama' || architecture === 'mistral' ? 'interleaved' : 'half',
    scaling,
  };
}

function ropeScaling(
  file: GgufFile,
  architecture: Architecture,
  factors: ArrayLike<number> | undefined,
): RopeScaling | undefined {
  if (factors) return { type: 'factors', factors };
  const factor = file.number(`${architecture}.rope.scaling.factor`) ?? file.number(`${architecture}.rope.scale_linear`);
  const type = file.string(`${architecture}.rope.scaling.type`) ?? (factor === undefined ? 'none' : 'linear');
  if (type === 'none' || factor === undefined) return undefined;
  if (type === 'linear') return { type, factor };
  const originalContext = file.number(`${architecture}.rope.scaling.original_context_length`);
  if (type === 'yarn' && originalContext !== undefined) {
    const attentionFactor = file.number(`${architecture}.rope.scaling.attn_factor`);
    return { type, factor, originalContext, ...(attentionFactor === undefined ? {} : { attentionFactor }) };
  }
  throw new UnsupportedArchitectureError(`${file.source.name}: rotary scaling "${type}" is not supported`);
}
