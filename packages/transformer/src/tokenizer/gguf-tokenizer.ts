import type { GgufFile } from '@filigree/checkpoint';
import { BpeEncoder } from './bpe-encoder.js';
import { cutAtSpaces, withPlainSpaces } from './cut-at-spaces.js';
import { endOfGenerationTexts } from './end-of-generation.js';
import { GgufTokenizerMetadata, keys } from './gguf-metadata.js';
import { MergePairs } from './merge-pairs.js';
import { MergeScores } from './merge-scores.js';
import type { PieceEncoder } from './piece-encoder.js';
import { cutByPatterns, preTokenizer, preTokenizerNames } from './pre-tokenizers.js';
import { TableTokenizer } from './table-tokenizer.js';
import type { Tokenizer } from './tokenizer.js';
import { writeUtf8 } from './utf8.js';
import { tokenType, Vocabulary } from './vocabulary.js';

/** What the two kinds of model differ in. */
interface Kind {
  readonly vocabulary: Vocabulary;
  readonly encoder: PieceEncoder;
  /** Where the file does not say. */
  readonly addBos: boolean;
  readonly dropsFirstSpace: boolean;
}

/**
 * The tokenizer that the metadata of a GGUF file describes: byte-level BPE (`gpt2`) or SentencePiece's BPE (`llama`). Token ids are those
 * of llama.cpp, except that plain text never becomes a control token.
 */
export function createGgufTokenizer(file: GgufFile): Tokenizer {
  const metadata = new GgufTokenizerMetadata(file);
  const model = metadata.string(keys.model);
  if (model !== 'gpt2' && model !== 'llama') {
    const got = model === undefined ? 'the file has none' : `the file has ${JSON.stringify(model)}`;
    throw metadata.fail(keys.model, `expected "gpt2" (byte-level BPE) or "llama" (SentencePiece), ${got}`);
  }
  const tokens = metadata.tokens();
  const types = metadata.types(tokens.length);
  const endings = endOfGeneration(metadata, tokens, types);
  const kind = model === 'gpt2' ? byteLevel(metadata, tokens, types) : sentencePiece(metadata, tokens, types);
  return new TableTokenizer({
    ...kind,
    specialTokens: tokensOfTypes(tokens, types, [tokenType.control, tokenType.unknown]),
    userTokens: tokensOfTypes(tokens, types, [tokenType.userDefined]),
    bos: metadata.id(keys.bos, tokens.length),
    eos: metadata.id(keys.eos, tokens.length),
    endOfGeneration: endings,
    addBos: metadata.boolean(keys.addBos) ?? kind.addBos,
  });
}

function byteLevel(metadata: GgufTokenizerMetadata, tokens: readonly string[], types: Uint8Array): Kind {
  const name = metadata.string(keys.pre) ?? 'default';
  const pre = preTokenizer(name);
  if (!pre) {
    const message = `the pre-tokenizer ${JSON.stringify(name)} is not supported. Supported: ${preTokenizerNames.join(', ')}`;
    throw metadata.fail(keys.pre, message);
  }
  const vocabulary = new Vocabulary(tokens, types, 'byte-level', metadata.name(keys.tokens));
  const merges = new MergePairs(metadata.merges(), vocabulary, 'byte-level', metadata.name(keys.merges));
  const encoder = new BpeEncoder({
    vocabulary,
    merges,
    cut: cutByPatterns(pre.patterns),
    write: (piece, out) => writeUtf8(piece, out, 0),
    symbols: 'bytes',
    wholePieces: pre.wholePieces,
  });
  return { vocabulary, encoder, addBos: pre.addBos, dropsFirstSpace: false };
}

function sentencePiece(metadata: GgufTokenizerMetadata, tokens: readonly string[], types: Uint8Array): Kind {
  const vocabulary = new Vocabulary(tokens, types, 'spaces', metadata.name(keys.tokens));
  const merges = new MergeScores(metadata.scores(tokens.length), vocabulary);
  const unknown = metadata.id(keys.unknown, tokens.length);
  if (unknown === undefined && !types.includes(tokenType.byte))
    throw metadata.fail(keys.unknown, 'is missing, and there are no byte tokens either: some texts would have no tokens');
  const addSpacePrefix = metadata.boolean(keys.addSpacePrefix) ?? true;
  const cutPlain = cutAtSpaces(vocabulary);
  const encoder = new BpeEncoder({
    vocabulary,
    merges,
    // After a parsed token the text begins anew.
    cut: (text, onPiece) => {
      cutPlain((addSpacePrefix ? ' ' : '') + withPlainSpaces(text), onPiece);
    },
    write: (piece, out) => writeUtf8(piece, out, 0),
    symbols: 'characters',
    unknown,
    fusesUnknown: true,
  });
  return { vocabulary, encoder, addBos: true, dropsFirstSpace: addSpacePrefix };
}

/** The tokens that end a generation. Those known by their text become control tokens, as which some files forget to mark them. */
function endOfGeneration(metadata: GgufTokenizerMetadata, tokens: readonly string[], types: Uint8Array): ReadonlySet<number> {
  const named = [keys.eos, keys.eot, keys.eom].map((key) => metadata.id(key, tokens.length));
  const found = new Set(named.filter((id) => id !== undefined));
  const texts = new Set(endOfGenerationTexts);
  for (const [id, token] of tokens.entries()) {
    if (!texts.has(token)) continue;
    found.add(id);
    types[id] = tokenType.control;
  }
  return found;
}

function tokensOfTypes(tokens: readonly string[], types: Uint8Array, wanted: readonly number[]): ReadonlyMap<string, number> {
  const found = new Map<string, number>();
  for (const [id, text] of tokens.entries()) if (text !== '' && wanted.includes(types[id])) found.set(text, id);
  return found;
}
