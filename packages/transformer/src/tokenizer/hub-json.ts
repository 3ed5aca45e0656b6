import { TokenizerError } from './errors.js';
import type { Merge } from './merge-pairs.js';

export type JsonObject = Readonly<Record<string, unknown>>;

/** A token that is found in text before anything else; only the special ones are no text. */
export interface AddedToken {
  readonly id: number;
  readonly content: string;
  readonly special: boolean;
}

/** The BPE model of a `tokenizer.json`. */
export interface BpeModel {
  readonly vocab: ReadonlyMap<string, number>;
  readonly merges: readonly Merge[];
  readonly byteFallback: boolean;
  readonly ignoreMerges: boolean;
  readonly fuseUnknown: boolean;
  readonly unknown: string | undefined;
}

/** Ids and ranks are packed with others into one number. */
const mostTokens = 1 << 22;

export function jsonObject(value: unknown, name: string): JsonObject {
  if (!isObject(value)) throw new TokenizerError(`${name}: expected an object, got ${describe(value)}`);
  return value;
}

export function addedTokens(json: JsonObject): readonly AddedToken[] {
  const name = 'tokenizer.json: added_tokens';
  const value = json['added_tokens'] ?? [];
  if (!Array.isArray(value)) throw new TokenizerError(`${name}: expected an array, got ${describe(value)}`);
  return value.map((entry: unknown, index) => {
    const token = jsonObject(entry, `${name}[${index}]`);
    const { id, content, special = false } = token;
    if (typeof content !== 'string')
      throw new TokenizerError(`${name}[${index}].content: expected a string, got ${describe(content)}`);
    return { id: tokenId(id, `${name}[${index}].id`), content, special: special === true };
  });
}

const kinds: readonly string[] = ['BPE', 'Unigram', 'WordPiece', 'WordLevel'];

/** The model, where it is BPE of the plain kind: without affixes of words. */
export function bpeModel(json: JsonObject): BpeModel | undefined {
  const model = jsonObject(json['model'], 'tokenizer.json: model');
  const { type = 'BPE' } = model;
  if (typeof type !== 'string' || !kinds.includes(type))
    throw new TokenizerError(`tokenizer.json: model.type: expected one of ${kinds.join(', ')}, got ${describe(type)}`);
  const affixed = Boolean(model['continuing_subword_prefix']) || Boolean(model['end_of_word_suffix']);
  if (type !== 'BPE' || model['merges'] === undefined || affixed) return undefined;
  const { merges, unk_token: unknown } = model;
  if (!Array.isArray(merges) || merges.length > mostTokens)
    throw new TokenizerError(
      `tokenizer.json: model.merges: expected at most ${mostTokens} merges in an array, got ${describe(merges)}`,
    );
  return {
    vocab: vocabularyIds(model['vocab']),
    merges: merges.map(merge),
    byteFallback: model['byte_fallback'] === true,
    ignoreMerges: model['ignore_merges'] === true,
    fuseUnknown: model['fuse_unk'] === true,
    unknown: typeof unknown === 'string' ? unknown : undefined,
  };
}

function vocabularyIds(value: unknown): ReadonlyMap<string, number> {
  const vocab = jsonObject(value, 'tokenizer.json: model.vocab');
  return new Map(
    Object.entries(vocab).map(([text, id]) => [text, tokenId(id, `tokenizer.json: model.vocab[${JSON.stringify(text)}]`)]),
  );
}

function merge(value: unknown, index: number): Merge {
  if (typeof value === 'string') return value;
  if (Array.isArray(value) && value.length === 2) {
    const [left, right] = value as readonly unknown[];
    if (typeof left === 'string' && typeof right === 'string') return [left, right];
  }
  throw new TokenizerError(`tokenizer.json: model.merges[${index}]: expected two texts, got ${describe(value)}`);
}

/** A token's id; `name` is for messages. */
export function tokenId(value: unknown, name: string): number {
  if (typeof value === 'number' && Number.isInteger(value) && value >= 0 && value < mostTokens) return value;
  throw new TokenizerError(`${name}: expected an integer of 0 to ${mostTokens - 1}, got ${describe(value)}`);
}

/** The steps of a normaliser, pre-tokenizer, post-processor or decoder: those of a sequence, or the one step. */
export function pipelineSteps(pipeline: unknown): readonly JsonObject[] {
  if (!isObject(pipeline)) return [];
  for (const key of ['decoders', 'processors', 'pretokenizers', 'normalizers']) {
    const inner = pipeline[key];
    if (Array.isArray(inner)) return inner.flatMap(pipelineSteps);
  }
  return [pipeline];
}

export function hasStep(pipeline: unknown, type: string): boolean {
  return pipelineSteps(pipeline).some((step) => step['type'] === type);
}

export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function describe(value: unknown): string {
  if (value === undefined) return 'nothing';
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 60 ? `${text.slice(0, 60)}…` : text;
}
