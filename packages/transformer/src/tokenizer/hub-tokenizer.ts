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
  type AddedToken,
  type BpeModel,
  type JsonObject,
} from './hub-json.js';
import { buildLibrary, guarded, libraryCut } from './hub-library.js';
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

/** How text between parsed tokens is encoded, and which tokens are parsed in every text. */
interface Encoding {
  readonly vocabulary: Vocabulary;
  readonly encoder: PieceEncoder;
  readonly userTokens: ReadonlyMap<string, number>;
}

/**
 * The tokenizer of `tokenizer.json`. `@huggingface/tokenizers` normalises and cuts text; BPE merges are done here (see
 * docs/decisions/0007-own-tokenizer-for-gguf.md), other models are the library's whole. Special tokens are parsed here, because the library parses
 * them in any text.
 */
export function createHubTokenizer({ tokenizerJson, tokenizerConfig }: HubTokenizerFiles): Tokenizer {
  const json = jsonObject(tokenizerJson, 'tokenizer.json');
  const config = tokenizerConfig === undefined ? {} : jsonObject(tokenizerConfig, 'tokenizer_config.json');
  const added = addedTokens(json);
  const model = bpeModel(json);
  const encoding =
    model && isPlain(json, config, added) ? ownEncoding(json, config, added, model) : libraryEncoding(json, config, added);
  const ids = new Map(added.map(({ content, id }) => [content, id]));
  const first = firstOfTemplate(json, ids);
  const bos = configuredToken(config, 'bos_token', ids) ?? first;
  const eos = configuredToken(config, 'eos_token', ids);
  const asked = config['add_bos_token'];
  const endings = new Set(endOfGenerationTexts.flatMap((text) => ids.get(text) ?? []));
  if (eos !== undefined) endings.add(eos);
  return new TableTokenizer({
    ...encoding,
    specialTokens: new Map(added.filter(({ special }) => special).map(({ content, id }) => [content, id])),
    bos,
    eos,
    endOfGeneration: endings,
    addBos: bos !== undefined && (typeof asked === 'boolean' ? asked : first === bos),
    dropsFirstSpace: pipelineSteps(json['decoder']).some(
      ({ type, content, start }) => type === 'Strip' && content === ' ' && start === 1,
    ),
  });
}

/** Whether added tokens are found in text as it is, and nothing else happens to text than `tokenizer.json` says. */
function isPlain(json: JsonObject, config: JsonObject, added: readonly AddedToken[]): boolean {
  const normalizes = isObject(json['normalizer']);
  const hidden = Boolean(config['remove_space']) || Boolean(config['do_lowercase_and_remove_accent']);
  return !hidden && added.every(({ greedy, normalized, special }) => !greedy && (special || !(normalized && normalizes)));
}

function ownEncoding(json: JsonObject, config: JsonObject, added: readonly AddedToken[], model: BpeModel): Encoding {
  const form: TextForm = hasStep(json['pre_tokenizer'], 'ByteLevel') ? 'byte-level' : 'spaces';
  const vocabulary = buildVocabulary(model.vocab, added, form, model.byteFallback);
  const merges = new MergePairs(model.merges, vocabulary, form, 'tokenizer.json: model.merges');
  const cut = libraryCut(json, config);
  const cutPlain = cutAtSpaces(vocabulary);
  const encoder = new BpeEncoder({
    vocabulary,
    merges,
    cut:
      form === 'byte-level'
        ? cut
        : (text, onPiece, first) => {
            cut(
              text,
              (piece) => {
                cutPlain(withPlainSpaces(piece), onPiece);
              },
              first,
            );
          },
    write: (piece, out) => (form === 'byte-level' ? byteLevelBytes(piece, out, 0) : writeUtf8(piece, out, 0)),
    symbols: form === 'byte-level' ? 'bytes' : 'characters',
    wholePieces: model.ignoreMerges,
    unknown: model.unknown === undefined ? undefined : model.vocab.get(model.unknown),
    fusesUnknown: model.fuseUnknown,
  });
  return {
    vocabulary,
    encoder,
    userTokens: new Map(added.filter(({ special }) => !special).map(({ content, id }) => [content, id])),
  };
}

function libraryEncoding(json: JsonObject, config: JsonObject, added: readonly AddedToken[]): Encoding {
  const specials = new Set(added.filter(({ special }) => special).map(({ id }) => id));
  const kept = Array.isArray(json['added_tokens'])
    ? json['added_tokens'].filter((token) => !specials.has((token as AddedToken).id))
    : [];
  const library = buildLibrary({ ...json, added_tokens: kept }, config);
  const form: TextForm = hasStep(json['decoder'], 'ByteLevel') ? 'byte-level' : 'spaces';
  const vocabulary = buildVocabulary(library.get_vocab(false), added, form, hasStep(json['decoder'], 'ByteFallback'));
  const encoder: PieceEncoder = {
    encode(text, out) {
      const { ids } = guarded(() => library.encode(text, { add_special_tokens: false }));
      for (const id of ids) out.push(id);
    },
    // The library keeps texts of tokens in several maps.
    byteLength: vocabulary.byteLength + 300 * vocabulary.size,
  };
  return { vocabulary, encoder, userTokens: new Map() };
}

function buildVocabulary(
  vocab: ReadonlyMap<string, number>,
  added: readonly AddedToken[],
  form: TextForm,
  hasBytes: boolean,
): Vocabulary {
  let size = 0;
  for (const id of vocab.values()) size = Math.max(size, id + 1);
  for (const { id } of added) size = Math.max(size, id + 1);
  const texts = new Array<string>(size).fill('');
  const types = new Uint8Array(size).fill(tokenType.normal);
  for (const [text, id] of vocab) {
    texts[id] = text;
    if (hasBytes && /^<0x[0-9A-Fa-f]{2}>$/.test(text)) types[id] = tokenType.byte;
  }
  for (const { id, content, special } of added) {
    texts[id] = content;
    types[id] = special ? tokenType.control : tokenType.userDefined;
  }
  return new Vocabulary(texts, types, form, 'tokenizer.json: model.vocab');
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
