import { Tokenizer as Library } from '@huggingface/tokenizers';
import { TokenizerError } from './errors.js';
import type { JsonObject } from './hub-json.js';

/** Cuts a text into pieces; `first` says whether a whole text begins there. */
export type Cut = (text: string, onPiece: (piece: string) => void, first: boolean) => void;

/** A model of the library. */
export interface LibraryModel {
  /** Ids by the texts of tokens. */
  readonly vocab: ReadonlyMap<string, number>;
  encode(pieces: readonly string[]): readonly number[];
}

/** The normaliser and the pre-tokenizer of a `tokenizer.json`, of which only they are looked at. */
export function libraryCut(json: JsonObject, config: JsonObject): Cut {
  const parts = { normalizer: json['normalizer'] ?? null, pre_tokenizer: json['pre_tokenizer'] ?? null };
  const { normalizer, pre_tokenizer: preTokenizer } = build({ ...emptyJson, ...parts }, config);
  const cut = (text: string, first: boolean): readonly string[] => {
    const normal = normalizer ? normalizer.normalize(text) : text;
    if (normal === '') return [];
    // The library tells the beginning of a text by the index of the section.
    return preTokenizer ? preTokenizer.pre_tokenize(normal, { section_index: first ? 0 : 1 }) : [normal];
  };
  return (text, onPiece, first) => {
    for (const piece of guarded(() => cut(text, first))) onPiece(piece);
  };
}

/** The model of a `tokenizer.json`, of which only that is looked at. */
export function libraryModel(json: JsonObject, config: JsonObject): LibraryModel {
  const { model } = build({ ...emptyJson, model: json['model'] }, config);
  if (!model) throw new TokenizerError('tokenizer.json: model: is missing');
  const { tokens_to_ids: vocab, unk_token_id: unknown } = model;
  return {
    vocab,
    encode: (pieces) =>
      guarded(() => model._call([...pieces])).flatMap((token) => {
        const id = vocab.get(token) ?? unknown;
        return id === undefined ? [] : [id];
      }),
  };
}

const emptyJson: JsonObject = {
  added_tokens: [],
  normalizer: null,
  pre_tokenizer: null,
  model: { type: 'BPE', vocab: {}, merges: [] },
  post_processor: null,
  decoder: null,
};

function build(json: JsonObject, config: JsonObject): Library {
  return guarded(() => new Library(json, config));
}

/** Runs a part of the library; its errors become typed. */
function guarded<T>(run: () => T): T {
  try {
    return run();
  } catch (error) {
    throw new TokenizerError(`tokenizer.json: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
  }
}
