import { Tokenizer as Library } from '@huggingface/tokenizers';
import { TokenizerError } from './errors.js';
import type { JsonObject } from './hub-json.js';

/** The library's tokenizer. */
export function buildLibrary(json: JsonObject, config: JsonObject): Library {
  return guarded(() => new Library(json, config));
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

/** Runs a part of the library; its errors become typed. */
export function guarded<T>(run: () => T): T {
  try {
    return run();
  } catch (error) {
    throw new TokenizerError(`tokenizer.json: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
  }
}
