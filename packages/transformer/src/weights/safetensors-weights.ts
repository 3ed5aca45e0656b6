import { UnsupportedTensorType, type SafetensorsFile } from '@filigree/checkpoint';
import type { CheckpointQuantization } from '@filigree/quantization';
import { convertibleWeight } from './convertible-weight.js';
import type { WeightInfo, WeightSource } from './weight-source.js';

const types = ['F32', 'F16', 'BF16'];

/** Names in checkpoints of `transformers` by those of GGUF, without `.weight` and `.bias`. */
const names: Readonly<Record<string, string>> = {
  token_embd: 'model.embed_tokens',
  output: 'lm_head',
  output_norm: 'model.norm',
  attn_q: 'self_attn.q_proj',
  attn_k: 'self_attn.k_proj',
  attn_v: 'self_attn.v_proj',
  attn_output: 'self_attn.o_proj',
  attn_q_norm: 'self_attn.q_norm',
  attn_k_norm: 'self_attn.k_norm',
  attn_norm: 'input_layernorm',
  ffn_gate: 'mlp.gate_proj',
  ffn_up: 'mlp.up_proj',
  ffn_down: 'mlp.down_proj',
};

/** Models that normalise after attention and feed-forward too call the norm before the feed-forward by another name. */
const plainNorms: Readonly<Record<string, string>> = { ffn_norm: 'post_attention_layernorm' };
const sandwichNorms: Readonly<Record<string, string>> = {
  ffn_norm: 'pre_feedforward_layernorm',
  post_attention_norm: 'post_attention_layernorm',
  post_ffw_norm: 'post_feedforward_layernorm',
};

/** `blk.3.attn_q.weight` → `model.layers.3.self_attn.q_proj.weight`; undefined for names without a counterpart. */
export function hubTensorName(name: string, sandwich: boolean): string | undefined {
  const parts = /^(?:blk\.(\d+)\.)?([a-z_]+)\.(weight|bias)$/.exec(name);
  if (!parts) return undefined;
  const [, layer, part, suffix] = parts;
  const known = { ...names, ...(sandwich ? sandwichNorms : plainNorms) };
  if (!Object.hasOwn(known, part)) return undefined;
  return `${layer ? `model.layers.${layer}.` : ''}${known[part]}.${suffix}`;
}

/** `model.layers.3.self_attn.q_proj.weight` → `blk.3.attn_q.weight`, for the same names; undefined for others. */
export function ggufTensorName(hubName: string): string | undefined {
  const parts = /^(?:language_model\.)?(?:model\.layers\.(\d+)\.)?(.+)\.(weight|bias)$/.exec(hubName);
  if (!parts) return undefined;
  const [, layer, hub, suffix] = parts;
  const known = Object.entries({ ...sandwichNorms, ...plainNorms, ...names }).find(([, name]) => name === hub);
  return known && `${layer ? `blk.${layer}.` : ''}${known[0]}.${suffix}`;
}

/** What there is to know of safetensors files beside their tensors. */
export interface SafetensorsWeightsOptions {
  /** There are norms after attention and feed-forward. */
  readonly sandwich: boolean;
  /** The `quantization_config` of the model, if it has one. */
  readonly quantization?: CheckpointQuantization | undefined;
}

/** The tensors of safetensors files under the names of GGUF. */
export function safetensorsWeights(file: SafetensorsFile, { sandwich, quantization }: SafetensorsWeightsOptions): WeightSource {
  const prefixed = file.tensors.some(({ name }) => name.startsWith('language_model.'));
  const hubName = (name: string): string | undefined => {
    const hub = hubTensorName(name, sandwich);
    return hub === undefined || !prefixed ? hub : `language_model.${hub}`;
  };
  return {
    name: file.name,
    tensors: file.tensors.map((tensor) => ({ ...tensor, type: tensor.dtype })),
    find(name): WeightInfo | undefined {
      const hub = hubName(name);
      const info = hub === undefined ? undefined : file.find(hub);
      if (!info) return undefined;
      if (!types.includes(info.dtype)) throw new UnsupportedTensorType(file.name, info.name, info.dtype, types);
      return { ...info, type: info.dtype };
    },
    findConverted(name) {
      const hub = hubName(name);
      if (quantization === undefined || !hub?.endsWith('.weight')) return undefined;
      return convertibleWeight(file, hub.slice(0, -'.weight'.length), quantization);
    },
    close: () => file.close(),
  };
}
