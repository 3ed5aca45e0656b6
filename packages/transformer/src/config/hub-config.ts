import type { GateKind, RopeScaling } from '@filigree/core-tensor';
import { ModelFormatError, UnsupportedArchitectureError } from '../errors.js';
import { gemmaEmbeddingScale, windowsOf } from './gguf-config.js';
import { isObject, JsonReader } from './json-reader.js';
import { architectures, checkConfig, type Architecture, type ModelConfig, type RopeConfig } from './model-config.js';

const activations: Readonly<Record<string, GateKind>> = {
  silu: 'silu',
  gelu_pytorch_tanh: 'gelu',
  gelu_new: 'gelu',
  gelu: 'gelu-erf',
};

/** Reads a `config.json` as `transformers` writes it. `where` names it in errors. */
export function hubConfig(json: unknown, where: string): ModelConfig {
  if (!isObject(json)) throw new ModelFormatError(`${where}: it is not an object`);
  const outer = new JsonReader(where, json);
  // Models with more senses than reading keep their language model one level down.
  const config = outer.child('text_config') ?? outer;
  const stated = config.text('model_type') ?? outer.text('model_type') ?? '';
  const architecture = architectures.find((known) => known === stated.replace(/_text$/, ''));
  if (!architecture)
    throw new UnsupportedArchitectureError(
      `${where}: model_type "${stated}" is not supported; supported are ${architectures.join(', ')}`,
    );
  const gemma = architecture === 'gemma3';
  const hiddenSize = config.number('hidden_size');
  const heads = config.number('num_attention_heads');
  const headDim = config.optional('head_dim') ?? (gemma ? 256 : hiddenSize / heads);
  const layers = config.number('num_hidden_layers');
  const stateActivation =
    config.text('hidden_activation') ?? config.text('hidden_act') ?? (gemma ? 'gelu_pytorch_tanh' : 'silu');
  const activation = Object.hasOwn(activations, stateActivation) ? activations[stateActivation] : undefined;
  if (!activation) throw new UnsupportedArchitectureError(`${where}: activation "${stateActivation}" is not supported`);
  return checkConfig(
    {
      architecture,
      name: config.text('_name_or_path'),
      vocabularySize: config.number('vocab_size'),
      hiddenSize,
      layers,
      heads,
      kvHeads: config.optional('num_key_value_heads') ?? heads,
      headDim,
      feedForwardSize: config.number('intermediate_size'),
      contextLength: config.number('max_position_embeddings'),
      normEps: config.optional('rms_norm_eps') ?? 1e-6,
      normWeightOffset: gemma ? 1 : 0,
      activation,
      embeddingScale: gemma ? gemmaEmbeddingScale(hiddenSize) : 1,
      attentionScale: 1 / Math.sqrt(gemma ? (config.optional('query_pre_attn_scalar') ?? headDim) : headDim),
      attentionSoftcap: config.optional('attn_logit_softcapping') ?? 0,
      logitSoftcap: config.optional('final_logit_softcapping') ?? 0,
      ...ropesOf(config, architecture, headDim),
      windows: windows(config, architecture, layers),
    },
    where,
  );
}

function windows(config: JsonReader, architecture: Architecture, layers: number): number[] {
  const window = config.optional('sliding_window') ?? 0;
  const types = config.texts('layer_types');
  if (types) return windowsOf(layers, (layer) => (types[layer] === 'sliding_attention' ? window : 0));
  switch (architecture) {
    case 'gemma3': {
      const pattern = config.optional('sliding_window_pattern') ?? 6;
      return windowsOf(layers, (layer) => ((layer + 1) % pattern === 0 ? 0 : window));
    }
    case 'mistral':
      return windowsOf(layers, () => window);
    case 'qwen2':
    case 'qwen3': {
      const from = config.flag('use_sliding_window') === true ? (config.optional('max_window_layers') ?? layers) : layers;
      return windowsOf(layers, (layer) => (layer >= from ? window : 0));
    }
    case 'llama':
      return windowsOf(layers, () => 0);
  }
}

/** Older files state one base and scaling; newer ones `rope_parameters`, one set for all layers or one per kind of layer. */
function ropesOf(config: JsonReader, architecture: Architecture, headDim: number): { rope: RopeConfig; localRope: RopeConfig } {
  const parameters = config.child('rope_parameters');
  const global = parameters?.child('full_attention') ?? parameters;
  const local = parameters?.child('sliding_attention');
  const partial = global?.optional('partial_rotary_factor') ?? config.optional('partial_rotary_factor') ?? 1;
  const shared = { dims: Math.round(headDim * partial), pairing: 'half' as const };
  const rope = {
    ...shared,
    base: global?.optional('rope_theta') ?? config.optional('rope_theta') ?? (architecture === 'gemma3' ? 1e6 : 1e4),
    scaling: scalingOf(global ?? config.child('rope_scaling'), config),
  };
  if (architecture !== 'gemma3') return { rope, localRope: rope };
  const localBase = local?.optional('rope_theta') ?? config.optional('rope_local_base_freq') ?? 10000;
  return { rope, localRope: { ...shared, base: localBase, scaling: undefined } };
}

function scalingOf(scaling: JsonReader | undefined, config: JsonReader): RopeScaling | undefined {
  const type = scaling?.text('rope_type') ?? scaling?.text('type') ?? 'default';
  if (!scaling || type === 'default') return undefined;
  const factor = scaling.optional('factor') ?? 1;
  const originalContext =
    scaling.optional('original_max_position_embeddings') ?? config.optional('original_max_position_embeddings');
  const needed = (): number => originalContext ?? config.number('max_position_embeddings');
  switch (type) {
    case 'linear':
      return { type, factor };
    case 'llama3':
      return {
        type,
        factor,
        lowFrequencyFactor: scaling.number('low_freq_factor'),
        highFrequencyFactor: scaling.number('high_freq_factor'),
        originalContext: needed(),
      };
    case 'yarn': {
      const attentionFactor = scaling.optional('attention_factor');
      return {
        type,
        factor,
        originalContext: needed(),
        betaFast: scaling.optional('beta_fast') ?? 32,
        betaSlow: scaling.optional('beta_slow') ?? 1,
        ...(attentionFactor === undefined ? {} : { attentionFactor }),
      };
    }
    default:
      throw new UnsupportedArchitectureError(`${scaling.where}: rotary scaling "${type}" is not supported`);
  }
}
