import { BpeEncoder } from './bpe-encoder.js';
import { byteLevelBytes } from './byte-level.js';
import { cutAtSpaces, withPlainSpaces } from './cut-at-spaces.js';
import { endOfGenerationTexts } from './end-of-generation.js';
import { TokenizerError } from './errors.js';
import {
  addedTokens,
  bpeModel,
  hasStep,
  isObject,
  jsonObject,
  pipelineSteps,
  tokenId,
  type AddedToken,
  type BpeModel,
  type JsonObject,
} from './hub-json.js';
import { libraryCut, libraryModel, type Cut } from './hub-library.js';
import { MergePairs } from './merge-pairs.js';
import type { PieceEncoder } from './piece-encoder.js';
import { TableTokenizer } from './table-tokenizer.js';
import type { Tokenizer } from './tokenizer.js';
import { writeUtf8 } from './utf8.js';
import { tokenType, Vocabulary, type TextForm } from './vocabulary.js';

/** The files of a model on the Hub, parsed. */
export interface HubTokenizerFiles {
  /** `tokenizer.json` */
  readonly tokenizerJson: unknown;
  /** `tokenizer_config.json` */
  readonly tokenizerConfig?: unknown;
}

/** How text between parsed tokens is encoded. */
interface Encoding {
  readonly vocabulary: Vocabulary;
  readonly encoder: PieceEncoder;
}

/**
 * The tokenizer of `tokenizer.json`. `@huggingface/tokenizers` normalises and cuts text, and runs models other than BPE; tokens that are found in
 * text are found here, and BPE merges here (docs/decisions/0007-own-tokenizer-for-gguf.md). That such tokens may take white space along
 * (`lstrip`, `rstrip`) is not supported.
 */
export function createHubTokenizer({ tokenizerJson, tokenizerConfig }: HubTokenizerFiles): Tokenizer {
  const json = jsonObject(tokenizerJson, 'tokenizer.json');
  const config = tokenizerConfig === undefined ? {} : jsonObject(tokenizerConfig, 'tokenizer_config.json');
  const added = addedTokens(json);
  const model = bpeModel(json);
  const cut = libraryCut(json, config);
  const encoding = model ? bpeEncoding(json, cut, added, model) : libraryEncoding(json, config, cut, added);
  const ids = new Map(added.map(({ content, id }) => [content, id]));
  const first = firstOfTemplate(json, ids);
  const bos = configuredToken(config, 'bos_token', ids) ?? first;
  const eos = configuredToken(config, 'eos_token', ids);
  const asked = config['add_bos_token'];
  const endings = new Set(endOfGenerationTexts.flatMap((text) => ids.get(text) ?? []));
  if (eos !== undefined) endings.add(eos);
  const found = (wanted: boolean): ReadonlyMap<string, number> =>
    new Map(added.filter(({ special }) => special === wanted).map(({ content, id }) => [content, id]));
  return new TableTokenizer({
    ...encoding,
    specialTokens: found(true),
    userTokens: found(false),
    bos,
    eos,
    endOfGeneration: endings,
    addBos: bos !== undefined && (typeof asked === 'boolean' ? asked : first === bos),
    dropsFirstSpace: dropsFirstSpace(json['decoder']),
  });
}

function bpeEncoding(json: JsonObject, cut: Cut, added: readonly AddedToken[], model: BpeModel): Encoding {
  const form: TextForm = hasStep(json['pre_tokenizer'], 'ByteLevel') ? 'byte-level' : 'spaces';
  const vocabulary = buildVocabulary(model.vocab, added, form, model.byteFallback);
  const merges = new MergePairs(model.merges, vocabulary, form, 'tokenizer.json: model.merges');
  const common = {
    vocabulary,
    merges,
    wholePieces: model.ignoreMerges,
    unknown: model.unknown === undefined ? undefined : model.vocab.get(model.unknown),
    fusesUnknown: model.fuseUnknown,
  };
  if (form === 'byte-level') {
    const write = (piece: string, out: Uint8Array): number => byteLevelBytes(piece, out, 0);
    return { vocabulary, encoder: new BpeEncoder({ ...common, cut, write, symbols: 'bytes' }) };
  }
  const cutPlain = cutAtSpaces(vocabulary);
  const encoder = new BpeEncoder({
    ...common,
    cut: (text, onPiece, first) => {
      const onLibraryPiece = (piece: string): void => {
        cutPlain(withPlainSpaces(piece), onPiece);
      };
      cut(text, onLibraryPiece, first);
    },
    write: (piece, out) => writeUtf8(piece, out, 0),
    symbols: 'characters',
  });
  return { vocabulary, encoder };
}

function libraryEncoding(json: JsonObject, config: JsonObject, cut: Cut, added: readonly AddedToken[]): Encoding {
  const model = libraryModel(json, config);
  const form: TextForm = hasStep(json['decoder'], 'ByteLevel') ? 'byte-level' : 'spaces';
  const vocabulary = buildVocabulary(model.vocab, added, form, hasStep(json['decoder'], 'ByteFallback'));
  const encoder: PieceEncoder = {
    encode(text, out, first) {
      const pieces: string[] = [];
      cut(text, (piece) => pieces.push(piece), first);
      for (const id of model.encode(pieces)) out.push(id);
    },
    // The library keeps the texts of tokens in several maps.
    byteLength: vocabulary.byteLength + 300 * vocabulary.size,
  };
  return { vocabulary, encoder };
}

function buildVocabulary(
  vocab: ReadonlyMap<string, number>,
  added: readonly AddedToken[],
  form: TextForm,
  hasBytes: boolean,
): Vocabulary {
  const name = 'tokenizer.json: model.vocab';
  let size = 0;
  for (const [text, id] of vocab) size = Math.max(size, tokenId(id, `${name}[${JSON.stringify(text)}]`) + 1);
  for (const { id } of added) size = Math.max(size, id + 1);
  const texts = new Array<string>(size).fill('');
  const types = new Uint8Array(size).fill(tokenType.normal);
  for (const [text, id] of vocab) {
    texts[id] = text;
    if (hasBytes && /^<0x[0-9A-Fa-f]{2}>$/.test(text)) types[id] = tokenType.byte;
  }
  for (const { id, content, special } of added) {
    // A token that the model has as well may also come of merges.
    if (!special && vocab.get(content) === id) continue;
    texts[id] = content;
    types[id] = special ? tokenType.control : tokenType.userDefined;
  }
  return new Vocabulary(texts, types, form, name);
}

/** Whether decoding takes the space away that encoding put before a text. */
function dropsFirstSpace(decoder: unknown): boolean {
  return pipelineSteps(decoder).some(
    ({ type, content, start, prepend_scheme: scheme = 'always', add_prefix_space: prefix = true }) =>
      type === 'Metaspace' ? scheme !== 'never' && prefix === true : type === 'Strip' && content === ' ' && start === 1,
  );
}

/** A token that the configuration names, by its text or as an object with its text. */
function configuredToken(config: JsonObject, key: string, ids: ReadonlyMap<string, number>): number | undefined {
  const value = config[key];
  const text = isObject(value) ? value['content'] : value;
  if (text === undefined || text === null) return undefined;
  if (typeof text !== 'string') throw new TokenizerError(`tokenizer_config.json: ${key}: expected the text of a token`);
  return ids.get(text);
}

/** The token that a template processor puts before a text. */
function firstOfTemplate(json: JsonObject, ids: ReadonlyMap<string, number>): number | undefined {
  for (const { type, single } of pipelineSteps(json['post_processor'])) {
    if (type !== 'TemplateProcessing' || !Array.isArray(single)) continue;
    const first: unknown = single[0];
    const special = isObject(first) ? first['SpecialToken'] : undefined;
    if (isObject(special) && typeof special['id'] === 'string') return ids.get(special['id']);
  }
  return undefined;
}
