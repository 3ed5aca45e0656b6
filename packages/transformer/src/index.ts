export {
  phaseAttention,
  type AttentionChoice,
  type AttentionOptions,
  type AttentionPhase,
  type MethodChoice,
  type PhaseAttention,
  type PolicyGroup,
} from './attention/attention-choice.js';
export type { LayerAttention } from './attention/attention-meter.js';
export type { AttentionMeasure, AttentionStats } from './attention/attention-stats.js';
export { layerTimes, type LayerTimes } from './attention/attention-times.js';
export { ChatTemplate, type ChatMessage } from './chat/chat-template.js';
export { ChatTemplateError } from './chat/errors.js';
export { ggufConfig } from './config/gguf-config.js';
export { hubConfig } from './config/hub-config.js';
export { architectures, type Architecture, type ModelConfig, type RopeConfig } from './config/model-config.js';
export * from './errors.js';
export {
  generate,
  type FinishReason,
  type GeneratedPart,
  type GenerateOptions,
  type GenerateStats,
  type Generation,
} from './generate/generate.js';
export { PromptCache, type KnownPrompt, type PromptCacheOptions } from './generate/prompt-cache.js';
export type { SpeculationOptions, SpeculationStats } from './generate/speculative.js';
export { Sampler, type SamplingOptions } from './generate/sampler.js';
export { StopStrings } from './generate/stop-strings.js';
export { kvCompressor, type KvChoice, type KvMethodChoice } from './kv/kv-choice.js';
export { kvTypes, type KvType } from './kv/kv-type.js';
export { layerHooks } from './model/hooks.js';
export { loadModel, type LoadModelOptions, type LoadProgress } from './model/load-model.js';
export { Model, type LogitsOptions, type ModelMemory, type WeightDescription } from './model/model.js';
export {
  Prefix,
  type ContinuationOptions,
  type PrefillOptions,
  type PrefillProgress,
  type PrefixStats,
} from './model/prefix.js';
export type { LoadPrefixOptions, SavePrefixOptions } from './model/prefix-file.js';
export { chunkTokens, Session, type SessionPrefill, type SessionStep } from './model/session.js';
export { TokenizerError } from './tokenizer/errors.js';
export { createGgufTokenizer } from './tokenizer/gguf-tokenizer.js';
export { createHubTokenizer } from './tokenizer/hub-tokenizer.js';
export type { Tokenizer, TokenStream } from './tokenizer/tokenizer.js';
export { ggufTensorName } from './weights/safetensors-weights.js';
