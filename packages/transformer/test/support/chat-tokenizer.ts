import { bytesSource, GgufFile, type GgufValue } from '@filigree/checkpoint';
import { createGgufTokenizer } from '../../src/tokenizer/gguf-tokenizer.js';
import type { Tokenizer } from '../../src/tokenizer/tokenizer.js';

/** Control tokens that begin, end and contain each other, one of a single character among them. */
export const controlTokens = ['<s>', '<|end|>', '<', '<|end|><|go|>', '[a b]', '§', '|end', 'é>', ' ¤', '\t<x'] as const;

/** Byte-level BPE of all bytes with a few merges, and {@link controlTokens}; `<s>` is `bos`. */
export function chatTokenizer(): Tokenizer {
  const printed = (byte: number): boolean => (byte > 32 && byte < 127) || (byte > 160 && byte !== 173);
  let other = 0x100;
  const bytes = Array.from({ length: 256 }, (_, byte) => String.fromCharCode(printed(byte) ? byte : other++));
  const merges = ['e n', 'en d', 'end |', '| >', 'a Ġ', '< |', 'Ġ >'];
  const tokens = [...controlTokens, ...bytes, ...merges.map((merge) => merge.replace(' ', ''))];
  const types = tokens.map((_, id) => (id < controlTokens.length ? 3 : 1));
  const metadata: [string, GgufValue][] = [
    ['tokenizer.ggml.model', { type: 'string', value: 'gpt2' }],
    ['tokenizer.ggml.pre', { type: 'string', value: 'gpt-2' }],
    ['tokenizer.ggml.tokens', { type: 'array', value: { elementType: 'string', values: tokens } }],
    ['tokenizer.ggml.token_type', { type: 'array', value: { elementType: 'i32', values: Int32Array.from(types) } }],
    ['tokenizer.ggml.merges', { type: 'array', value: { elementType: 'string', values: merges } }],
    ['tokenizer.ggml.bos_token_id', { type: 'u32', value: 0 }],
    ['tokenizer.ggml.eos_token_id', { type: 'u32', value: 1 }],
    ['tokenizer.ggml.add_bos_token', { type: 'bool', value: true }],
  ];
  const source = bytesSource(new Uint8Array(), 'chat.gguf');
  const file = { source, version: 3, alignment: 32, dataOffset: 0, metadata: new Map(metadata), tensors: [] } as const;
  return createGgufTokenizer(new GgufFile(file));
}
