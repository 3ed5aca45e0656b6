import type { GateKind, RopePairing, RopeScaling } from '@filigree/core-tensor';
import { ModelFormatError } from '../errors.js';

/** Architectures that are built here, by the names GGUF uses. */
export const architectures = ['llama', 'mistral', 'qwen2', 'qwen3', 'gemma3'] as const;
export type Architecture = (typeof architectures)[number];

/** Rotary embedding of one kind of layer. */
export interface RopeConfig {
  readonly base: number;
  /** Channels of a head that turn. */
  readonly dims: number;
  readonly pairing: RopePairing;
  readonly scaling?: RopeScaling | undefined;
}

/** What a decoder is made of; read from GGUF metadata or `config.json`. */
export interface ModelConfig {
  readonly architecture: Architecture;
  readonly name: string | undefined;
  readonly vocabularySize: number;
  readonly hiddenSize: number;
  readonly layers: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly feedForwardSize: number;
  /** Positions the model was trained for. */
  readonly contextLength: number;
  readonly normEps: number;
  /** Added to the weights of every RMSNorm: 1 where the file stores the scale minus one. */
  readonly normWeightOffset: number;
  readonly activation: GateKind;
  /** Factor on token embeddings. */
  readonly embeddingScale: number;
  /** Factor on query-key products. */
  readonly attentionScale: number;
  /** c·tanh(x / c) on attention scores and on logits; 0: none. */
  readonly attentionSoftcap: number;
  readonly logitSoftcap: number;
  /** Rotary embedding of layers that see everything, and of those with a window. */
  readonly rope: RopeConfig;
  readonly localRope: RopeConfig;
  /** Keys that each layer sees, the query's own included; 0: all. */
  readonly windows: readonly number[];
}

/** Sizes beyond which a file is taken for broken or hostile. */
const limits = {
  vocabularySize: 1 << 24,
  hiddenSize: 1 << 17,
  layers: 1 << 12,
  heads: 1 << 12,
  kvHeads: 1 << 12,
  headDim: 1 << 10,
  feedForwardSize: 1 << 20,
  contextLength: 1 << 30,
} as const;

/** Returns the configuration, or throws ModelFormatError naming the value that cannot be. */
export function checkConfig(config: ModelConfig, where: string): ModelConfig {
  for (const [name, most] of Object.entries(limits)) {
    const value = config[name as keyof typeof limits];
    if (!Number.isInteger(value) || value < 1 || value > most)
      throw new ModelFormatError(`${where}: ${name} is ${value}, it must be an integer from 1 to ${most}`);
  }
  if (config.heads % config.kvHeads !== 0)
    throw new ModelFormatError(`${where}: ${config.heads} query heads do not share ${config.kvHeads} key-value heads`);
  const positive = { normEps: config.normEps, attentionScale: config.attentionScale, embeddingScale: config.embeddingScale };
  for (const [name, value] of Object.entries({ ...positive, ropeBase: config.rope.base, localBase: config.localRope.base })) {
    if (!Number.isFinite(value) || value <= 0)
      throw new ModelFormatError(`${where}: ${name} is ${value}, it must be a positive number`);
  }
  for (const { dims } of [config.rope, config.localRope]) {
    if (!Number.isInteger(dims) || dims < 2 || dims % 2 !== 0 || dims > config.headDim)
      throw new ModelFormatError(`${where}: ${dims} rotary channels do not fit into heads of ${config.headDim}`);
  }
  for (const window of config.windows) {
    if (!Number.isInteger(window) || window < 0)
      throw new ModelFormatError(`${where}: a sliding window of ${window} tokens is impossible`);
  }
  return config;
}
