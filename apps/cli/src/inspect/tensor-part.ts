import { tensorRole } from '@filigree/quantization';
import { ggufTensorName } from '@filigree/transformer';

/** Parts of a language model by which files are summed up: as quantisation recipes tell weights apart, and what they leave alone. */
export const tensorParts = [
  ...(['embedding', 'output', 'query', 'key', 'value', 'query-key-value', 'attention-output'] as const),
  ...(['gate', 'up', 'down', 'router', 'norm', 'bias', 'other'] as const),
] as const;
export type TensorPart = (typeof tensorParts)[number];

/** Parts in words. */
export const partTitles: Readonly<Record<TensorPart, string>> = {
  embedding: 'embeddings',
  output: 'output',
  query: 'attention q',
  key: 'attention k',
  value: 'attention v',
  'query-key-value': 'attention q, k, v',
  'attention-output': 'attention output',
  gate: 'ffn gate',
  up: 'ffn up',
  down: 'ffn down',
  router: 'router',
  norm: 'norms',
  bias: 'biases',
  other: 'other',
};

/** Ends of names of what quantised checkpoints have in place of a weight: GPTQ and AWQ, compressed-tensors, FP8, bitsandbytes. */
const pieces = /\.(?:qweight|qzeros|scales|g_idx|SCB|input_scale|weight[_.].+)$/;

/** The part that a tensor belongs to, by its name in GGUF or in a checkpoint of `transformers`. */
export function tensorPart(name: string): TensorPart {
  const weight = name.replace(pieces, '.weight');
  const gguf = ggufTensorName(weight) ?? weight;
  if (gguf.endsWith('.bias')) return 'bias';
  if (gguf.includes('norm')) return 'norm';
  if (gguf.includes('ffn_gate_inp')) return 'router';
  if (gguf.includes('attn_qkv')) return 'query-key-value';
  return tensorRole(gguf);
}
