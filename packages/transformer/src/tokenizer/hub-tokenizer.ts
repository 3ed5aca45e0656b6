import { Tokenizer as HubModel } from '@huggingface/tokenizers';
import { endOfGenerationTexts } from './end-of-generation.js';
import { TokenizerError } from './errors.js';
import { TableTokenizer } from './table-tokenizer.js';
import type { Tokenizer } from './tokenizer.js';
import { tokenType, Vocabulary, type TextForm } from './vocabulary.js';

/** The files of a model on the Hub, parsed. */
export interface HubTokenizerFiles {
  /** `tokenizer.json` */
  readonly tokenizerJson: unknown;
  /** `tokenizer_config.json` */
  readonly tokenizerConfig?: unknown;
}

/** What of `tokenizer.json` is looked at here; the rest is the library's. */
interface AddedToken {
  readonly id: number;
  readonly content: string;
  readonly special: boolean;
}

/**
 * The tokenizer of `tokenizer.json`. `@huggingface/tokenizers` turns text into tokens; special tokens are parsed here, because that library
 * parses them in any text.
 */
export function createHubTokenizer({ tokenizerJson, tokenizerConfig }: HubTokenizerFiles): Tokenizer {
  const json = record(tokenizerJson, 'tokenizer.json');
  const config = tokenizerConfig === undefined ? {} : record(tokenizerConfig, 'tokenizer_config.json');
  const added = addedTokens(json['added_tokens']);
  const special = added.filter((token) => token.special);
  const plain = added.filter((token) => !token.special);
  const library = buildLibrary({ ...json, added_tokens: plain }, config);
  const vocabulary = buildVocabulary(json, library, added);
  const specialTokens = new Map(special.map(({ content, id }) => [content, id]));
  const ids = new Map(added.map(({ content, id }) => [content, id]));
  const bos = tokenOf(config, 'bos_token', ids) ?? postProcessorBos(json, ids);
  const eos = tokenOf(config, 'eos_token', ids);
  const endings = new Set(endOfGenerationTexts.flatMap((text) => ids.get(text) ?? []));
  if (eos !== undefined) endings.add(eos);
  return new TableTokenizer({
    vocabulary,
    encoder: {
      encode(text, out) {
        for (const id of library.encode(text, { add_special_tokens: false }).ids) out.push(id);
      },
      // The library keeps strings in maps: about a hundred bytes a token and as much a merge.
      byteLength: vocabulary.byteLength + 200 * vocabulary.size,
    },
    specialTokens,
    userTokens: new Map(),
    bos,
    eos,
    endOfGeneration: endings,
    addBos: bos !== undefined && addsBos(json, config, ids, bos),
    dropsFirstSpace: stripsFirstSpace(json['decoder']),
  });
}

function buildLibrary(json: Record<string, unknown>, config: Record<string, unknown>): HubModel {
  try {
    return new HubModel(json, config);
  } catch (error) {
    throw new TokenizerError(`tokenizer.json: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
  }
}

/** The bytes of each token, for decoding. */
function buildVocabulary(json: Record<string, unknown>, library: HubModel, added: readonly AddedToken[]): Vocabulary {
  const entries = library.get_vocab(false);
  let size = 0;
  for (const id of [...entries.values(), ...added.map((token) => token.id)]) {
    if (!Number.isInteger(id) || id < 0 || id >= 1 << 22)
      throw new TokenizerError(`tokenizer.json: model.vocab: ${id} is no token id`);
    size = Math.max(size, id + 1);
  }
  const texts = new Array<string>(size).fill('');
  const types = new Uint8Array(size).fill(tokenType.normal);
  const form: TextForm = hasStep(json['decoder'], 'ByteLevel') ? 'byte-level' : 'spaces';
  const bytes = hasStep(json['decoder'], 'ByteFallback');
  for (const [text, id] of entries) {
    texts[id] = text;
    if (bytes && /^<0x[0-9A-Fa-f]{2}>$/.test(text)) types[id] = tokenType.byte;
  }
  for (const { id, content, special } of added) {
    texts[id] = content;
    types[id] = special ? tokenType.control : tokenType.userDefined;
  }
  return new Vocabulary(texts, types, form, 'tokenizer.json: model.vocab');
}

function addedTokens(value: unknown): AddedToken[] {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value)) throw new TokenizerError('tokenizer.json: added_tokens: expected an array');
  return value.map((entry: unknown, index) => {
    const token = record(entry, `tokenizer.json: added_tokens[${index}]`);
    const { id, content, special = false } = token;
    if (typeof id !== 'number' || typeof content !== 'string' || typeof special !== 'boolean')
      throw new TokenizerError(
        `tokenizer.json: added_tokens[${index}]: expected a number id, a string content and a boolean special`,
      );
    return { ...token, id, content, special };
  });
}

/** A token that the configuration names, as a text or as an object with its text. */
function tokenOf(config: Record<string, unknown>, key: string, ids: ReadonlyMap<string, number>): number | undefined {
  const value = config[key];
  if (value === undefined || value === null) return undefined;
  const text = typeof value === 'string' ? value : record(value, `tokenizer_config.json: ${key}`)['content'];
  if (typeof text !== 'string') throw new TokenizerError(`tokenizer_config.json: ${key}: expected the text of a token`);
  return ids.get(text);
}

/** The token that a template processor puts before a text. */
function postProcessorBos(json: Record<string, unknown>, ids: ReadonlyMap<string, number>): number | undefined {
  for (const step of steps(json['post_processor'])) {
    if (step['type'] !== 'TemplateProcessing' || !Array.isArray(step['single'])) continue;
    const first: unknown = step['single'][0];
    const special = isRecord(first) ? first['SpecialToken'] : undefined;
    if (isRecord(special) && typeof special['id'] === 'string') return ids.get(special['id']);
  }
  return undefined;
}

function addsBos(
  json: Record<string, unknown>,
  config: Record<string, unknown>,
  ids: ReadonlyMap<string, number>,
  bos: number,
): boolean {
  const asked = config['add_bos_token'];
  return typeof asked === 'boolean' ? asked : postProcessorBos(json, ids) === bos;
}

function stripsFirstSpace(decoder: unknown): boolean {
  return steps(decoder).some((step) => step['type'] === 'Strip' && step['content'] === ' ' && step['start'] === 1);
}

function hasStep(pipeline: unknown, type: string): boolean {
  return steps(pipeline).some((step) => step['type'] === type);
}

/** The steps of a pipeline: those of a sequence, or the one step. */
function steps(pipeline: unknown): Record<string, unknown>[] {
  if (!isRecord(pipeline)) return [];
  const inner = pipeline['decoders'] ?? pipeline['processors'] ?? pipeline['pretokenizers'] ?? pipeline['normalizers'];
  return Array.isArray(inner) ? inner.flatMap(steps) : [pipeline];
}

function record(value: unknown, name: string): Record<string, unknown> {
  if (!isRecord(value)) throw new TokenizerError(`${name}: expected an object`);
  return value;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
