import { Tokenizer as Library } from '@huggingface/tokenizers';
import { TokenizerError } from './errors.js';
import type { JsonObject } from './hub-json.js';

/** The library's tokenizer; its errors become typed. */
export function buildLibrary(json: JsonObject, config: JsonObject): Library {
  try {
    return new Library(json, config);
  } catch (error) {
    throw failure(error);
  }
}

/** Cuts a text as the normaliser and the pre-tokenizer of `tokenizer.json` do. */
export function libraryCut(
  json: JsonObject,
  config: JsonObject,
): (text: string, onPiece: (piece: string) => void, first: boolean) => void {
  const { normalizer, pre_tokenizer: preTokenizer } = buildLibrary(
    { ...json, added_tokens: [], model: { type: 'BPE', vocab: {}, merges: [] }, post_processor: null, decoder: null },
    config,
  );
  return (text, onPiece, first) => {
    const normal = normalizer ? normalizer.normalize(text) : text;
    if (normal === '') return;
    // The library tells the beginning of a text by the index of the section.
    const pieces = preTokenizer ? preTokenizer.pre_tokenize(normal, { section_index: first ? 0 : 1 }) : [normal];
    for (const piece of pieces) onPiece(piece);
  };
}

function failure(error: unknown): TokenizerError {
  return new TokenizerError(`tokenizer.json: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
}
