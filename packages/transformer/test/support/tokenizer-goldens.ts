import type { GgufFile } from '@filigree/checkpoint';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { bool, floats, ggufFile, integers, string, strings, u32 } from './tokenizer-gguf.js';

/** What scripts/goldens/tokenizer-small.py writes. */
const folder = join(import.meta.dirname, '../goldens/tokenizers');

function read(name: string): unknown {
  return JSON.parse(readFileSync(join(folder, name), 'utf8'));
}

export const goldenTexts = read('texts.json') as readonly string[];

/** Ids of each text, with control tokens parsed and without. */
export interface GoldenIds {
  readonly special: readonly (readonly number[])[];
  readonly plain: readonly (readonly number[])[];
}

interface TokenizerJson {
  readonly model: { readonly vocab: Readonly<Record<string, number>>; readonly merges: readonly (readonly [string, string])[] };
  readonly added_tokens: readonly { readonly id: number; readonly content: string; readonly special: boolean }[];
}

/** A tokenizer.json and its ids. */
export function hubGolden(name: string): { readonly json: unknown; readonly ids: GoldenIds } {
  return { json: read(`${name}.tokenizer.json`), ids: read(`${name}.ids.json`) as GoldenIds };
}

/** A byte-level tokenizer as a GGUF file, and its ids. */
export function byteLevelGolden(name: string): { readonly file: GgufFile; readonly ids: GoldenIds } {
  const { json, ids } = hubGolden(name);
  const { model, added_tokens: added } = json as TokenizerJson;
  const tokens = Object.entries(model.vocab).sort(([, a], [, b]) => a - b);
  const texts = tokens.map(([text]) => text);
  const types = tokens.map(() => 1);
  for (const { id, content, special } of added) {
    texts[id] = content;
    types[id] = special ? 3 : 4;
  }
  const file = ggufFile([
    ['tokenizer.ggml.model', string('gpt2')],
    ['tokenizer.ggml.pre', string(name)],
    ['tokenizer.ggml.tokens', strings(texts)],
    ['tokenizer.ggml.token_type', integers(types)],
    ['tokenizer.ggml.merges', strings(model.merges.map((pair) => pair.join(' ')))],
    ['tokenizer.ggml.bos_token_id', u32(texts.indexOf('<|im_start|>'))],
    ['tokenizer.ggml.eos_token_id', u32(texts.indexOf('<|im_end|>'))],
    ['tokenizer.ggml.add_bos_token', bool(false)],
  ]);
  return { file, ids };
}

interface Pieces {
  readonly tokens: readonly string[];
  readonly scores: readonly number[];
  readonly types: readonly number[];
  readonly ids: readonly (readonly number[])[];
}

/** A SentencePiece tokenizer as a GGUF file, and its ids without control tokens parsed. */
export function sentencePieceGolden(name: 'spaced' | 'prefixed'): { readonly file: GgufFile; readonly ids: Pieces['ids'] } {
  const { tokens, scores, types, ids } = read(`${name}.pieces.json`) as Pieces;
  const file = ggufFile([
    ['tokenizer.ggml.model', string('llama')],
    ['tokenizer.ggml.tokens', strings(tokens)],
    ['tokenizer.ggml.scores', floats(scores)],
    ['tokenizer.ggml.token_type', integers(types)],
    ['tokenizer.ggml.bos_token_id', u32(1)],
    ['tokenizer.ggml.eos_token_id', u32(2)],
    ['tokenizer.ggml.unknown_token_id', u32(0)],
    ['tokenizer.ggml.add_space_prefix', bool(name === 'prefixed')],
  ]);
  return { file, ids };
}
