import { bytesSource, GgufFile, type GgufValue } from '@filigree/checkpoint';
import { byteLevelText } from './tokenizer-bytes.js';

export type Metadata = readonly (readonly [string, GgufValue])[];

export const string = (value: string): GgufValue => ({ type: 'string', value });
export const bool = (value: boolean): GgufValue => ({ type: 'bool', value });
export const u32 = (value: number): GgufValue => ({ type: 'u32', value });
export const strings = (values: readonly string[]): GgufValue => ({ type: 'array', value: { elementType: 'string', values } });
export const integers = (values: readonly number[]): GgufValue => ({
  type: 'array',
  value: { elementType: 'i32', values: Int32Array.from(values) },
});
export const floats = (values: readonly number[]): GgufValue => ({
  type: 'array',
  value: { elementType: 'f32', values: Float32Array.from(values) },
});

/** A file of metadata only. */
export function ggufFile(metadata: Metadata): GgufFile {
  return new GgufFile({
    source: bytesSource(new Uint8Array(), 'test.gguf'),
    version: 3,
    alignment: 32,
    dataOffset: 0,
    metadata: new Map(metadata),
    tensors: [],
  });
}

/** What llama.cpp wants to know of a model before it looks at the tokenizer. */
export const tinyLlama: Metadata = [
  ['general.architecture', string('llama')],
  ['llama.context_length', u32(128)],
  ['llama.embedding_length', u32(32)],
  ['llama.block_count', u32(1)],
  ['llama.feed_forward_length', u32(32)],
  ['llama.attention.head_count', u32(1)],
  ['llama.attention.layer_norm_rms_epsilon', { type: 'f32', value: Math.fround(1e-5) }],
];

/**
 * Byte-level BPE in which any two bytes merge, in a scrambled order: which merge depends on where each piece begins and ends, so that the ids
 * of a text are those of its pieces and nothing else.
 */
export function pairTokenizer(pre: string): Metadata {
  const bytes = Array.from({ length: 256 }, (_, byte) => byteLevelText(Uint8Array.of(byte)));
  const merges = Array.from({ length: 65_536 }, (_, index) => {
    const pair = (index * 40_503 + 9_973) % 65_536;
    return [bytes[pair >> 8], bytes[pair & 255]] as const;
  });
  const tokens = ['<|end|>', ...bytes, ...merges.map((pair) => pair.join(''))];
  return [
    ...tinyLlama,
    ['tokenizer.ggml.model', string('gpt2')],
    ['tokenizer.ggml.pre', string(pre)],
    ['tokenizer.ggml.tokens', strings(tokens)],
    ['tokenizer.ggml.token_type', integers(tokens.map((_, id) => (id === 0 ? 3 : 1)))],
    ['tokenizer.ggml.merges', strings(merges.map((pair) => pair.join(' ')))],
    ['tokenizer.ggml.bos_token_id', u32(0)],
    ['tokenizer.ggml.eos_token_id', u32(0)],
  ];
}
